"""What a verdict looks like in a terminal and in files."""

import csv
import io
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from loadtest.results import Flag
from loadtest.verdict.capacity import Capacity, find_capacity
from loadtest.verdict.capacity_outputs import capacity_table, write_capacity
from loadtest.verdict.limits import limits_of
from loadtest.verdict.outputs import (
    CSV_FIELDS,
    CheckDocument,
    check_csv,
    check_json,
    junit_xml,
    verdict_table,
    write_outputs,
)
from loadtest.verdict.targets import TargetVerdict, judge
from tests.unit.loadtest.runs import make_run
from tests.unit.loadtest.verdict.judged import judged
from vllmstack.deployment.model import Target

LIMITS = {
    "output_tokens_per_second": 600,
    "requests_per_second": 9,
    "ttft_seconds": {"mean": 0.1, "p95": 0.2, "p99": 1},
    "error_ratio": 0.05,
}


def verdict(**changes: Any) -> TargetVerdict:
    target = Target.model_validate({"load": {"concurrency": 4}, **LIMITS})
    return judge(target, [make_run(limits=limits_of(target), **changes)], "smoke")


def invalid() -> TargetVerdict:
    flag = Flag(kind="client", severity="invalid", fact="the client\x1b[31m was late", hint="more cores")
    return verdict(flags=[flag])


def shown(what: RenderableType) -> list[str]:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_shows_target_measured_interval_and_verdict() -> None:
    lines = shown(verdict_table(verdict(failed=3)))

    assert lines[0] == "smoke · chat · concurrency 4: missed"
    assert lines[1].split() == ["limit", "target", "measured", "95", "%", "verdict"]
    assert lines[2].split()[:6] == ["output", "tokens", "≥", "600", "tok/s", "651"]
    assert [line.split()[-1] for line in lines[2:8]] == ["met", "missed", "met", "met", "missed", "met"]
    assert "more than every answer" in lines[6]
    assert "  ttft mean: 3 of 200 requests failed and are not in the mean" in lines
    assert "  ttft p95, ttft p99: 3 of 200 requests failed: slower than every answer" in lines


def test_an_invalid_measurement_shows_its_reasons_instead_of_remarks() -> None:
    lines = shown(verdict_table(invalid()))

    assert lines[0].endswith(": invalid")
    assert lines[-1] == "  chat-c4-0: the client�[31m was late"


def test_warnings_stand_below_the_table() -> None:
    flag = Flag(kind="reconciliation", severity="warning", fact="the engines counted more", hint="look")

    assert shown(verdict_table(verdict(flags=[flag])))[-1] == "  warning: the engines counted more"


@pytest.mark.parametrize("failed", [0, 3, 200])
def test_eighty_columns_hold_every_table(failed: int) -> None:
    every = {name: {"mean": 0.0123, "p50": 123.4, "p90": 124, "p95": 125, "p99": 1234} for name in (
        "ttft_seconds", "tpot_seconds", "itl_seconds", "e2e_seconds",
    )}  # fmt: skip
    target = Target.model_validate(
        {"load": {"concurrency": 4}, "output_tokens_per_second": 1_234_567, "goodput_ratio": 0.9999, **every}
    )
    run = make_run(failed=failed, limits=limits_of(target), timeline=[])
    run.total.window_tokens *= 1000
    name = "an-organisation/a-model-with-a-name-of-more-than-fifty-characters-in-all-of-it"

    lines = shown(verdict_table(judge(target, [run], "smoke").model_copy(update={"model": name})))

    assert max(map(len, lines)) <= 80
    assert sum(line.endswith(("met", "missed")) for line in lines) >= len(judge(target, [run], "smoke").rows)


def test_json_holds_the_verdicts_and_can_be_read_back() -> None:
    verdicts = [verdict(), verdict(failed=3)]

    document = CheckDocument.model_validate_json(check_json(verdicts))

    assert (document.format, document.verdict, document.exit_code) == (1, "missed", 1)
    assert document.targets == tuple(verdicts)
    # Strict readers know no bare Infinity.
    json.loads(check_json(verdicts), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_json_of_no_target_is_invalid() -> None:
    assert CheckDocument.model_validate_json(check_json([])) == CheckDocument(
        verdict="invalid",  # type: ignore[arg-type]
        exit_code=2,
        targets=(),
    )


def test_csv_has_a_line_a_limit() -> None:
    one = verdict(failed=3)

    lines = list(csv.DictReader(io.StringIO(check_csv([one]))))

    assert tuple(lines[0]) == CSV_FIELDS
    assert [line["limit"] for line in lines] == [row.key for row in one.rows]
    assert lines[0]["relation"] == ">="
    assert float(lines[0]["measured"]) == one.rows[0].measured.estimate  # type: ignore[union-attr]
    assert float(lines[4]["measured"]) == math.inf
    assert (lines[3]["relation"], lines[3]["unit"], lines[3]["asked"], lines[3]["verdict"]) == ("<=", "s", "0.2", "met")
    assert lines[0]["runs"] == "chat-c4-0"


def test_csv_leaves_out_what_was_not_measured() -> None:
    target = Target.model_validate({"load": {"concurrency": 4}, "error_ratio": 0})

    (line,) = csv.DictReader(io.StringIO(check_csv([judge(target, [], "smoke")])))

    assert (line["measured"], line["margin_ratio"], line["verdict"]) == ("", "", "invalid")


def test_junit_has_a_suite_a_target_and_a_case_a_limit() -> None:
    root = ET.fromstring(junit_xml([verdict(), verdict(failed=3), invalid()]))  # noqa: S314

    met, missed, broken = root.findall("testsuite")
    assert root.get("name") == "vllmstack check"
    assert {name: root.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "18", "failures": "3", "errors": "6",
    }  # fmt: skip
    assert met.get("name") == "smoke · chat · concurrency 4"
    assert [(suite.get("failures"), suite.get("errors")) for suite in (met, missed, broken)] == [
        ("1", "0"), ("2", "0"), ("0", "6"),
    ]  # fmt: skip
    assert [case.get("name") for case in met] == [
        "output tokens", "requests", "ttft mean", "ttft p95", "ttft p99", "error ratio",
    ]  # fmt: skip


def test_junit_says_what_was_measured_and_why_it_failed() -> None:
    root = ET.fromstring(junit_xml([verdict(failed=3), invalid()]))  # noqa: S314

    passed, slow = root.find(".//testcase[@name='ttft p95']/system-out"), root.find(".//*[@name='ttft p99']/failure")
    error = root.find(".//error")
    assert passed is not None
    assert slow is not None
    assert error is not None
    assert (passed.text or "").startswith("ttft p95: 76.2 ms (71.4–94.1 ms), asked ≤ 200 ms; 3 of 200 requests")
    assert (slow.get("message") or "").startswith("ttft p99: more than every answer (83.7–∞ ms), asked ≤ 1 s; 3 of")
    # A character that XML cannot hold is replaced, so that the file can be read at all.
    assert error.get("message") == "chat-c4-0: the client�[31m was late"


def test_junit_has_a_case_even_if_there_is_no_limit() -> None:
    nothing = judge(Target.model_validate({"load": {"concurrency": 4}}), [make_run()], "smoke")

    root = ET.fromstring(junit_xml([nothing]))  # noqa: S314

    error = root.find(".//testcase[@name='measurement']/error")
    assert error is not None
    assert error.get("message") == "the target sets no limit"


def test_the_files_are_written_whole_and_replace_those_before(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    write_outputs([verdict()], folder)

    written = write_outputs([verdict(failed=200)], folder)

    assert [path.name for path in written] == ["check.json", "check.csv", "junit.xml"]
    assert sorted(folder.iterdir()) == sorted(written)
    assert CheckDocument.model_validate_json(written[0].read_text()).exit_code == 1
    assert ET.parse(written[2]).getroot().tag == "testsuites"  # noqa: S314


def capacity() -> Capacity:
    return find_capacity(lambda load: judged(load, ttft=0.25 * load, close=load == 10), low=1, precision=0.3)


def test_a_capacity_shows_each_probe_and_what_binds() -> None:
    lines = shown(capacity_table(capacity(), "/s"))

    assert lines[0].split() == ["load", "nearest", "limit", "target", "measured", "verdict"]
    assert lines[1].split() == ["1/s", "ttft", "p99", "≤", "2", "s", "250", "ms", "met"]
    assert [line.split()[0] for line in lines[1:-1]] == ["1/s", "2/s", "4/s", "8/s", "16/s", "12/s", "10/s", "10/s"]
    assert lines[-2].endswith("missed (again)")
    assert lines[-1] == "8 is met and 10 is not: ttft p99 binds"
    assert max(map(len, lines)) <= 80


def test_a_capacity_is_written_whole(tmp_path: Path) -> None:
    path = write_capacity(capacity(), tmp_path)

    assert list(tmp_path.iterdir()) == [path]
    assert Capacity.model_validate_json(path.read_text()) == capacity()
