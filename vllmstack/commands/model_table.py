"""The models in the volume as a person reads them; 80 columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One repository at one commit."""

    hub: str
    size: int
    """Bytes."""
    commit: str = ""
    revisions: list[str] = field(default_factory=list)
    """Branches and tags that stand for the commit here."""
    locked: bool = False
    deployments: list[str] = field(default_factory=list)
    """Those that use it."""
    whole: bool = True
    """False: half a download."""


def model_table(rows: Sequence[Row]) -> Table:
    """The table."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("revision", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("locked", no_wrap=True)
    table.add_column("used by", overflow="fold")
    for row in rows:
        revision = " ".join([row.commit[:12], *(f"({name})" for name in row.revisions)])
        used = ", ".join(row.deployments) or "–"
        table.add_row(
            escape(row.hub),
            escape(revision) if row.whole else "[yellow]not whole[/yellow]",
            f"{row.size / 1e9:,.2f} GB",
            "yes" if row.locked else "no",
            escape(used) if row.whole else "`models pull` goes on with it",
        )
    return table
