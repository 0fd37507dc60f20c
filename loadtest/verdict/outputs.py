"""A verdict as a table for people, and as JSON, CSV and JUnit for programs."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loadtest.verdict.numbers import quantity, span
from loadtest.verdict.targets import Part, Row, TargetVerdict, Verdict, exit_code

JSON_FILE, CSV_FILE, JUNIT_FILE = "check.json", "check.csv", "junit.xml"
CSV_FIELDS = (
    "model", "scenario", "load", "limit", "relation", "asked", "measured", "low", "high", "level", "unit", "verdict",
    "margin_ratio", "note", "runs",
)  # fmt: skip
"""Columns of check.csv, a line a limit; asked, measured, low and high are in ``unit``; inf is infinity."""

_STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.INVALID: "bold yellow"}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write and a terminal obeys; a server's error may hold them."""


class CheckDocument(Part):
    """What check.json holds. Infinity is the text ``"Infinity"``."""

    format: Literal[1] = 1
    verdict: Verdict
    exit_code: int
    targets: tuple[TargetVerdict, ...]


def document(verdicts: Sequence[TargetVerdict]) -> CheckDocument:
    """All targets of a check and what they come to together."""
    code = exit_code(verdicts)
    overall = next((verdict.verdict for verdict in verdicts if verdict.exit_code == code), Verdict.INVALID)
    return CheckDocument(verdict=overall, exit_code=code, targets=tuple(verdicts))


def verdict_table(verdict: TargetVerdict) -> RenderableType:
    """Target, measured, interval and verdict of each limit, with what is to be said of them below; 80 columns."""
    repeats = f", {len(verdict.runs)} runs" if len(verdict.runs) > 1 else ""
    title = Text.from_markup(f"[bold]{escape(verdict.name)}[/bold]{repeats}: ")
    title.append(verdict.verdict, style=_STYLES[verdict.verdict])
    table = Table(box=None, pad_edge=False)
    for heading, right in (("limit", False), ("target", True), ("measured", True), ("95 %", True), ("verdict", False)):
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=not right)
    for row in verdict.rows:
        measured = quantity(row.measured.estimate, row.unit) if row.measured else "–"
        interval = span(row.measured, row.unit) if row.measured else "–"
        table.add_row(row.limit, _asked(row), measured, interval, Text(row.verdict, style=_STYLES[row.verdict]))
    return Group(title, table, *(Padding(Text(_clean(remark)), (0, 0, 0, 2)) for remark in _remarks(verdict)))


def _remarks(verdict: TargetVerdict) -> Iterator[str]:
    if verdict.verdict is Verdict.INVALID:
        yield from verdict.reasons
        return
    said: dict[str, list[str]] = {}
    for row in verdict.rows:
        for note in row.notes:
            said.setdefault(note, []).append(row.limit)
    yield from (f"{', '.join(limits)}: {note}" for note, limits in said.items())
    yield from (f"warning: {warning}" for warning in verdict.warnings)


def _asked(row: Row) -> str:
    return f"{'≤' if row.at_most else '≥'} {quantity(row.asked, row.unit)}"


def check_json(verdicts: Sequence[TargetVerdict]) -> str:
    """The text of check.json, a CheckDocument."""
    return document(verdicts).model_dump_json(indent=1) + "\n"


def check_csv(verdicts: Sequence[TargetVerdict]) -> str:
    """The text of check.csv, with CSV_FIELDS as its first line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for verdict in verdicts:
        for row in verdict.rows:
            measured = row.measured
            numbers = (measured.estimate, measured.low, measured.high, measured.level) if measured else ("",) * 4
            writer.writerow(
                (
                    *(verdict.model, verdict.scenario, verdict.load, row.key, "<=" if row.at_most else ">=", row.asked),
                    *numbers,
                    *(row.unit, row.verdict, "" if row.margin is None else row.margin, row.note),
                    " ".join(verdict.runs),
                )
            )
    return text.getvalue()


def junit_xml(verdicts: Sequence[TargetVerdict]) -> str:
    """The text of junit.xml: a suite for each model, scenario and load; a case for each limit.

    A missed limit is a failure, an invalid one an error, as CI systems show tests that failed and that could not run.
    """
    root = ET.Element("testsuites", name="vllmstack check")
    for verdict in verdicts:
        suite = ET.SubElement(root, "testsuite", name=_clean(verdict.name))
        for row in verdict.rows:
            case = ET.SubElement(suite, "testcase", classname=_clean(verdict.name), name=row.limit)
            _outcome(case, row.verdict, _message(row), verdict.reasons)
        if verdict.verdict is Verdict.INVALID and all(row.verdict is not Verdict.INVALID for row in verdict.rows):
            case = ET.SubElement(suite, "testcase", classname=_clean(verdict.name), name="measurement")
            _outcome(case, Verdict.INVALID, "nothing can be judged", verdict.reasons)
        _count(suite)
    _count(root)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _outcome(case: ET.Element, verdict: Verdict, message: str, reasons: Sequence[str]) -> None:
    if verdict is Verdict.MET:
        ET.SubElement(case, "system-out").text = _clean(message)
    elif verdict is Verdict.MISSED:
        ET.SubElement(case, "failure", type=verdict, message=_clean(message))
    else:
        error = ET.SubElement(case, "error", type=verdict, message=_clean(reasons[0] if reasons else message))
        error.text = _clean("\n".join(reasons))


def _message(row: Row) -> str:
    if row.measured is None:
        return row.note
    text = (
        f"{row.limit}: {quantity(row.measured.estimate, row.unit)} ({span(row.measured, row.unit)}), "
        f"asked {_asked(row)}"
    )
    return f"{text}; {row.note}" if row.note else text


def _count(element: ET.Element) -> None:
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        element.set(attribute, str(sum(1 for _ in element.iter(tag))))


def _clean(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def write_outputs(verdicts: Sequence[TargetVerdict], folder: Path) -> list[Path]:
    """Writes check.json, check.csv and junit.xml, each all or nothing; the paths.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (
        (JSON_FILE, check_json(verdicts)),
        (CSV_FILE, check_csv(verdicts)),
        (JUNIT_FILE, junit_xml(verdicts)),
    ):
        unfinished = folder / f"{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        written.append(unfinished.replace(folder / name))
    return written
