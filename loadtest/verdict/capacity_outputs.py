"""A search for the capacity as a table for people, and as JSON for programs."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.verdict.capacity import Capacity
from loadtest.verdict.numbers import quantity
from loadtest.verdict.targets import Row, Verdict

CAPACITY_FILE = "capacity.json"

_STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.INVALID: "bold yellow"}


def capacity_table(capacity: Capacity, unit: str) -> RenderableType:
    """Each probe in the order of measuring, the limit that it came nearest to or missed by most, and what was found.

    ``unit`` is that of a load: ``/s`` or ``users``; 80 columns.
    """
    table = Table(box=None, pad_edge=False)
    for heading, right in (("load", True), ("nearest limit", False), ("target", True), ("measured", True)):
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for probe in capacity.probes:
        row = probe.nearest
        cells = _cells(row) if row else ("–", "–", "–")
        again = " (again)" if probe.repeated else ""
        table.add_row(f"{probe.load:g}{unit}", *cells, Text(f"{probe.verdict}{again}", style=_STYLES[probe.verdict]))
    return Group(table, Text(capacity.summary, style="bold"))


def _cells(row: Row) -> tuple[str, str, str]:
    measured = quantity(row.measured.estimate, row.unit) if row.measured else "–"
    return row.limit, f"{'≤' if row.at_most else '≥'} {quantity(row.asked, row.unit)}", measured


def write_capacity(capacity: Capacity, folder: Path) -> Path:
    """Writes capacity.json, all or nothing; its path.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{CAPACITY_FILE}.part"
    unfinished.write_text(capacity.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return unfinished.replace(folder / CAPACITY_FILE)
