"""What a report is made of, before it is HTML or Markdown: sections of tables, charts, findings and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from loadtest.report.charts.canvas import Drawing
from loadtest.report.finding import Finding

Tone = Literal["", "good", "bad", "warn", "quiet"]


@dataclass(frozen=True)
class Cell:
    """One value of a table."""

    text: str
    tone: Tone = ""
    note: str = ""
    """Smaller, below: an interval, a remark."""


@dataclass(frozen=True)
class Column:
    """Its heading; numbers stand right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of equal length."""

    kind: ClassVar = "table"
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A number that must be seen first."""

    title: str
    value: str
    unit: str = ""
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Cards:
    """A few of them in a row."""

    kind: ClassVar = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Notice:
    """What must not be overlooked."""

    kind: ClassVar = "notice"
    title: str
    lines: Sequence[str]
    tone: Tone


@dataclass(frozen=True)
class Paragraph:
    """Plain words."""

    kind: ClassVar = "paragraph"
    text: str


@dataclass(frozen=True)
class Figures:
    """Charts side by side."""

    kind: ClassVar = "figures"
    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class Findings:
    """What limited the run."""

    kind: ClassVar = "findings"
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Code:
    """To be copied: a command, a file."""

    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True)
class Fold:
    """Shown when it is asked for."""

    kind: ClassVar = "fold"
    title: str
    blocks: "Sequence[Block]"
    tone: Tone = ""


@dataclass(frozen=True)
class Columns:
    """Tables and charts side by side where the page is wide enough."""

    kind: ClassVar = "columns"
    blocks: Sequence[Table | Figures]


Block = Table | Cards | Notice | Paragraph | Figures | Findings | Code | Fold | Columns


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """For links within the page."""
        return "".join(character if character.isalnum() else "-" for character in self.title.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A report."""

    title: str
    badge: str
    """One word: valid, INVALID, regression."""
    tone: Tone
    facts: Sequence[str]
    """What, on what, when: short pieces for one line."""
    sections: Sequence[Section]


def drawings(blocks: Sequence[Block]) -> list[Drawing]:
    """Every chart, those in folds too."""
    found: list[Drawing] = []
    for block in blocks:
        if isinstance(block, Figures):
            found += block.drawings
        elif isinstance(block, Fold | Columns):
            found += drawings(block.blocks)
    return found


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell | str]], caption: str = "") -> Table:
    """A table; headings that begin with ``#`` are of numbers."""
    return Table(
        columns=[Column(title.removeprefix("#"), title.startswith("#")) for title in columns],
        rows=[[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows],
        caption=caption,
    )
