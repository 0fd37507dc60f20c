"""What becomes of lines: answers, refusals, and servers that are busy, broken or away."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from vllmstack import repeating
from vllmstack.batch import runner
from vllmstack.batch.journal import Journal
from vllmstack.batch.lines import BadLine, Request
from vllmstack.batch.runner import Runner
from vllmstack.batch.source import survey
from vllmstack.errors import Problem, StackError

Answer = Callable[[dict[str, Any]], httpx2.Response]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "FIRST_PAUSE_SECONDS", 0.001)


def requests(count: int) -> Iterator[Request | BadLine]:
    for number in range(1, count + 1):
        yield Request(number=number, custom_id=f"c{number}", url="/v1/completions", body=b'{"prompt":%d}' % number)


def ran(
    folder: Path, lines: Iterator[Request | BadLine], answer: Answer, **how: Any
) -> dict[str, list[dict[str, Any]]]:
    """Documents by file, after a run."""
    source = folder / "in.jsonl"
    source.write_text("{}\n")

    async def handle(request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0)  # as a network would, lest one worker do all of it
        return answer(json.loads(request.content))

    async def run(journal: Journal) -> None:
        transport = httpx2.MockTransport(handle)
        async with httpx2.AsyncClient(base_url="http://batch.test", transport=transport) as client:
            await Runner(client=client, journal=journal, **{"concurrency": 4, **how}).run(lines)

    files = {"answers": folder / "out.jsonl", "errors": folder / "err.jsonl"}
    with Journal(survey(source, folder), *files.values()) as journal:
        asyncio.run(run(journal))
    return {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in files.items()}


def test_every_line_is_answered_once(tmp_path: Path) -> None:
    found = ran(tmp_path, requests(50), lambda body: httpx2.Response(200, json={"echo": body["prompt"]}))

    assert sorted(one["response"]["body"]["echo"] for one in found["answers"]) == list(range(1, 51))
    assert found["answers"][0].keys() == {"id", "custom_id", "response", "error"}
    assert found["errors"] == []


def test_a_refusal_is_the_lines_own(tmp_path: Path) -> None:
    found = ran(tmp_path, requests(1), lambda _: httpx2.Response(400, json={"error": {"message": "no"}}))

    (error,) = found["errors"]
    assert (error["custom_id"], error["response"]["status_code"]) == ("c1", 400)
    assert error["response"]["body"] == {"error": {"message": "no"}}


def test_a_bad_line_is_not_sent(tmp_path: Path) -> None:
    found = ran(tmp_path, iter([BadLine(number=3, custom_id=None, fact="line 3 is no JSON")]), lambda _: None)  # type: ignore[arg-type,return-value]

    (error,) = found["errors"]
    assert (error["id"], error["error"]) == ("batch_req_3", {"code": "invalid_line", "message": "line 3 is no JSON"})


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_is_busy_is_asked_again(tmp_path: Path, status: int) -> None:
    seen: dict[int, int] = {}

    def answer(body: dict[str, Any]) -> httpx2.Response:
        seen[body["prompt"]] = seen.get(body["prompt"], 0) + 1
        return httpx2.Response(200 if seen[body["prompt"]] > 2 else status, json={})

    found = ran(tmp_path, requests(8), answer)

    assert len(found["answers"]) == 8
    assert set(seen.values()) == {3}


def test_a_line_that_breaks_the_server_each_time_is_an_error(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        return httpx2.Response(500 if body["prompt"] == 3 else 200, json={})

    found = ran(tmp_path, requests(8), answer)

    assert [one["custom_id"] for one in found["errors"]] == ["c3"]
    assert len(found["answers"]) == 7


def test_a_server_that_starts_again_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def answer(_: dict[str, Any]) -> httpx2.Response:
        nonlocal asked
        asked += 1
        if 10 < asked <= 60:  # more than five tries of each of the four that are on their way
            if asked % 2:
                raise httpx2.ConnectError("refused")
            return httpx2.Response(503, json={"error": {"message": "no replica"}})
        return httpx2.Response(200, json={})

    monkeypatch.setattr(repeating, "LONGEST_PAUSE_SECONDS", 0.002)
    found = ran(tmp_path, requests(50), answer)

    assert (len(found["answers"]), found["errors"]) == (50, [])


def one_line_breaks_each_time(tmp_path: Path, **options: Any) -> tuple[dict[str, Any], int]:
    """What a run keeps whose line 1 never gets an answer, and how often that was asked."""
    tries = 0

    def answer(body: dict[str, Any]) -> httpx2.Response:
        nonlocal tries
        if body["prompt"] == 1:
            tries += 1
            raise httpx2.RemoteProtocolError("peer closed connection")
        return httpx2.Response(200, json={})

    def endless() -> Iterator[Request | BadLine]:
        """Others are answered for as long as it takes."""
        for one in requests(1_000_000):
            if tries > runner.TRIES:
                return
            yield one

    return ran(tmp_path, endless(), answer, **options), tries


def test_a_line_whose_connection_breaks_each_time_is_an_error(tmp_path: Path) -> None:
    found, tries = one_line_breaks_each_time(tmp_path)

    (error,) = found["errors"]
    assert error["custom_id"] == "c1"
    assert error["error"] == {"code": "no_answer", "message": "RemoteProtocolError: peer closed connection"}
    assert tries in (runner.TRIES, runner.TRIES + 1)  # the first may fail before any other is answered


def test_last_lines_that_are_never_answered_are_errors_once_patience_ends(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        if body["prompt"] == 1:
            raise httpx2.ReadTimeout("")
        return httpx2.Response(503 if body["prompt"] == 2 else 200, json={})

    found = ran(tmp_path, requests(3), answer, patience_seconds=0.05)

    assert sorted((one["custom_id"], one["response"] is None) for one in found["errors"]) == [
        ("c1", True),
        ("c2", False),
    ]
    assert len(found["answers"]) == 1


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_one_line_at_a_time_a_line_that_is_never_answered_keeps_none_from_its_answer(tmp_path: Path, bad: int) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        if body["prompt"] == bad:
            raise httpx2.RemoteProtocolError("peer closed connection")
        return httpx2.Response(200, json={})

    found = ran(tmp_path, requests(3), answer, concurrency=1, patience_seconds=0.05)

    assert [one["custom_id"] for one in found["errors"]] == [f"c{bad}"]
    assert len(found["answers"]) == 2


def test_as_many_bad_lines_as_are_asked_at_a_time_keep_none_from_its_answer(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        if body["prompt"] <= 4:
            raise httpx2.ReadTimeout("")
        return httpx2.Response(200, json={})

    found = ran(tmp_path, requests(20), answer, concurrency=4, patience_seconds=0.05)

    assert sorted(one["custom_id"] for one in found["errors"]) == ["c1", "c2", "c3", "c4"]
    assert len(found["answers"]) == 16


def test_a_line_that_was_set_aside_has_its_tries_while_others_are_answered(tmp_path: Path) -> None:
    found, tries = one_line_breaks_each_time(tmp_path, concurrency=1)

    assert [one["custom_id"] for one in found["errors"]] == ["c1"]
    assert tries == runner.TRIES + 1  # the first failed before any other was answered


def test_a_line_that_takes_longer_than_patience_ends_no_run(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        if body["prompt"] == 1:
            time.sleep(0.1)  # as a server that says nothing until the request's own limit
            raise httpx2.ReadTimeout("")
        return httpx2.Response(200, json={})

    found = ran(tmp_path, requests(3), answer, concurrency=1, patience_seconds=0.09)

    assert (len(found["answers"]), [one["custom_id"] for one in found["errors"]]) == (2, ["c1"])


def test_while_a_server_is_away_few_lines_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def counted() -> Iterator[Request | BadLine]:
        nonlocal taken
        for one in requests(1000):
            taken += 1
            yield one

    def answer(_: dict[str, Any]) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    monkeypatch.setattr(runner, "ASIDE", 3)
    monkeypatch.setattr(repeating, "LONGEST_PAUSE_SECONDS", 0.002)
    with pytest.raises(ExceptionGroup):
        ran(tmp_path, counted(), answer, concurrency=2, patience_seconds=0.2)

    assert taken == 3 + 2 + 1  # set aside, on their way, and the one that is next


def test_a_quota_that_a_line_can_never_fit_is_its_error(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        return httpx2.Response(429, json={}, headers={"x-should-retry": "false"})

    assert len(ran(tmp_path, requests(2), answer)["errors"]) == 2


def test_an_answer_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    found = ran(tmp_path, requests(1), lambda _: httpx2.Response(200, text="<html>"))

    assert found["answers"] == []
    assert found["errors"][0]["response"]["body"]["error"]["message"] == "<html>"


def test_a_key_that_is_refused_ends_the_run_and_no_line(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as ended:
        ran(tmp_path, requests(8), lambda _: httpx2.Response(401, json={"error": {"message": "wrong API key"}}))

    assert ended.group_contains(StackError, match="refuses the key")
    assert (tmp_path / "err.jsonl").read_text() == ""


def test_a_server_that_is_away_ends_the_run_and_keeps_what_it_has(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        if body["prompt"] > 2:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={})

    with pytest.raises(ExceptionGroup) as ended:
        ran(tmp_path, requests(80), answer, patience_seconds=0.05)

    assert ended.group_contains(StackError, match="no line was answered for")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_a_server_that_goes_away_costs_no_line_though_all_that_are_left_were_tried(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        if body["prompt"] > 4:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={})

    with pytest.raises(ExceptionGroup) as ended:
        ran(tmp_path, requests(20), answer, patience_seconds=0.2)

    assert ended.group_contains(StackError, match="no line was answered for")
    assert (tmp_path / "err.jsonl").read_text() == ""


def test_a_server_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    asked = 0

    def answer(_: dict[str, Any]) -> httpx2.Response:
        nonlocal asked
        asked += 1
        if asked > 4:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={})

    def ended() -> StackError | None:
        # Its end is seen a moment after its connections broke.
        return StackError(Problem(fact="vLLM ended (exit 1)", hint="mend it")) if asked > 20 else None

    with pytest.raises(ExceptionGroup) as told:
        ran(tmp_path, requests(80), answer, ended=ended)

    assert told.group_contains(StackError, match=r"vLLM ended \(exit 1\)")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4
    assert (tmp_path / "err.jsonl").read_text() == ""
