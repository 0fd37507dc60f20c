"""A report's files: one HTML page, Markdown, and every chart as SVG and PNG."""

from pathlib import Path

from loadtest.errors import LoadTestError
from loadtest.report.document import Document, Fold, drawings
from loadtest.report.html import to_html
from loadtest.report.markdown import to_markdown
from vllmstack.errors import Problem

CHARTS = "charts"


def write_report(document: Document, folder: Path, name: str = "report") -> Path:
    """Writes NAME.html, NAME.md and charts/; the path of the page.

    Charts of folded parts are only in the page.

    Raises:
        LoadTestError: the folder cannot be written.
    """
    page = folder / f"{name}.html"
    try:
        (folder / CHARTS).mkdir(parents=True, exist_ok=True)
        for section in document.sections:
            shown = [block for block in section.blocks if not isinstance(block, Fold)]
            for drawing in drawings(shown):
                (folder / CHARTS / f"{drawing.name}.svg").write_text(drawing.file, encoding="utf-8")
                (folder / CHARTS / f"{drawing.name}.png").write_bytes(drawing.png())
        (folder / f"{name}.md").write_text(to_markdown(document, charts=CHARTS), encoding="utf-8")
        page.write_text(to_html(document), encoding="utf-8")
    except OSError as error:
        where = error.filename or folder
        raise LoadTestError(
            Problem(file=str(where), fact=f"cannot be written: {error.strerror}", hint="choose another --output")
        ) from error
    return page
