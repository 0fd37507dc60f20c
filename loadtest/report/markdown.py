"""A document as Markdown, for a repository or a pull request, with its charts as PNG files beside it."""

import re
from collections.abc import Iterator
from functools import singledispatch

from loadtest.report.document import (
    Block,
    Cards,
    Cell,
    Code,
    Columns,
    Document,
    Figures,
    Findings,
    Fold,
    Notice,
    Paragraph,
    Table,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!$&])")
_MARKS = {"bad": "❌ ", "warn": "⚠️ ", "good": "✅ "}


def to_markdown(document: Document, *, charts: str = "charts") -> str:
    """The text; pictures are linked as ``CHARTS/NAME.png``. Details that the page folds are left to the page."""
    facts = escape(" · ".join(document.facts))
    lines = [f"# {escape(document.title)}", "", f"**{escape(document.badge)}** · {facts}", ""]
    for section in document.sections:
        lines += [f"## {escape(section.title)}", ""]
        for block in section.blocks:
            lines += [*_written(block, charts), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def escape(text: str) -> str:
    """One line in which nothing is markup: errors come from servers, and names from anywhere."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _written(block: Block, charts: str) -> Iterator[str]:
    if isinstance(block, Columns):
        for one in block.blocks:
            yield from _written(one, charts)
            yield ""
    elif isinstance(block, Figures):
        for drawing in block.drawings:
            yield f"![{escape(drawing.title)}: {escape(drawing.subtitle)}]({charts}/{drawing.name}.png)"
            yield ""
    else:
        yield from _text(block)


@singledispatch
def _text(block: object) -> Iterator[str]:
    raise TypeError(f"a {type(block).__name__} has no Markdown")


@_text.register
def _(block: Table) -> Iterator[str]:
    yield "| " + " | ".join(escape(column.title) or " " for column in block.columns) + " |"
    yield "| " + " | ".join("---:" if column.numeric else "---" for column in block.columns) + " |"
    for row in block.rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    if block.caption:
        yield ""
        yield escape(block.caption)


@_text.register
def _(block: Cards) -> Iterator[str]:
    for card in block.cards:
        note = f" ({escape(card.note)})" if card.note else ""
        yield f"- {escape(card.title)}: **{escape(f'{card.value} {card.unit}')}**{note}"


@_text.register
def _(block: Notice) -> Iterator[str]:
    yield f"> {_MARKS.get(block.tone, '')}**{escape(block.title)}**"
    if block.lines:
        yield ">"
    yield from (f"> - {escape(line)}" for line in block.lines)


@_text.register
def _(block: Paragraph) -> Iterator[str]:
    yield escape(block.text)


@_text.register
def _(block: Findings) -> Iterator[str]:
    for finding in block.findings:
        loads = f" (at {escape(', '.join(finding.loads))})" if finding.loads else ""
        yield f"**{escape(finding.limit)}**{loads}"
        yield ""
        yield from (f"- {escape(line)}" for line in finding.evidence)
        yield from (f"- → {_with_commands(line)}" for line in finding.advice)
        yield ""


@_text.register
def _(block: Fold) -> Iterator[str]:
    codes = [inner for inner in block.blocks if isinstance(inner, Code)]
    yield f"{escape(block.title)}:" if codes else f"- {escape(block.title)}"
    for code in codes:
        yield ""
        yield from _text(code)


@_text.register
def _(block: Code) -> Iterator[str]:
    longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence
    yield block.text
    yield fence


def _cell(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.tone == "bad" and cell.text else escape(cell.text)
    return text + (f" ({escape(cell.note)})" if cell.note else "")


def _with_commands(text: str) -> str:
    """Our own advice holds commands between backticks."""
    pieces = text.split("`")
    closed = len(pieces) - 1
    plain = (_SPECIAL.sub(r"\\\1", piece) for piece in pieces)
    return "".join(
        f"`{piece}`" if at % 2 and at < closed else escaped
        for at, (piece, escaped) in enumerate(zip(pieces, plain, strict=True))
    )
