"""A document as one HTML file that asks nothing of any server."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.report.document import Document

_TEMPLATES = Path(__file__).parent / "templates"


def to_html(document: Document) -> str:
    """All of it: style and charts inside. Every text is escaped; only the drawings are markup, and those are ours."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = _commands
    return environment.get_template("report.html.jinja").render(document=document)


def _commands(text: str) -> Markup:
    """What stands between backticks as code."""
    pieces = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if at % 2 and at + 1 < len(pieces) else Markup("{}").format(piece)
        for at, piece in enumerate(pieces)
    )
