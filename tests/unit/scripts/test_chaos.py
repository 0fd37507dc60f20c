"""What `make chaos` makes of answers and of counts."""

import time

import pytest

from scripts.chaos import FAULTS, Fault, Result, counts_wrong, judge, note_requests
from scripts.chaos_load import Request, complaint
from scripts.chaos_watch import Sample

OK = b"HTTP/1.1 200 OK\r\n"
EVENTS = b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n'


def chunked(body: bytes) -> bytes:
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(
    ("answer", "streamed", "wrong"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", False, ""),
        (chunked(EVENTS), True, ""),
        (b"", True, "closed without a byte"),
        (OK, True, "closed within the header"),
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nnone", False, "503: none"),
        (OK + b"Content-Length: 3\r\n\r\n{}", False, "closed before the end"),
        (chunked(EVENTS)[:-5], True, "closed before the end"),
        (chunked(b"data: {}\n\n"), True, "the stream ended without its last event"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(answer: bytes, streamed: bool, wrong: str) -> None:
    assert complaint(answer, streamed=streamed) == wrong


def test_an_answer_that_the_engine_gave_up_is_no_answer() -> None:
    said = complaint(chunked(b'data: {"error": {"code": 500}}\n\ndata: [DONE]\n\n'), streamed=True)
    assert said.startswith("ended by the engine")
    body = b'{"choices":[{"finish_reason":"abort"}]}'
    assert complaint(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body, streamed=False).startswith("ended by")


def request(*, sent: float, error: str = "", status: int | None = 200, first_byte: float | None = 1.0) -> Request:
    return Request(streamed=True, sent=sent, ended=sent + 1, error=error, status=status, first_byte=first_byte)


def fault(name: str) -> Fault:
    return next(one for one in FAULTS if one.name == name)


def counted(name: str, *requests: Request) -> tuple[int, int, int]:
    result = Result(fault=name, does=name)
    note_requests(result, fault(name), list(requests), begun=100.0)
    return result.failed_before_a_byte, result.cut, result.lost_with_the_gateway


def test_an_error_before_a_byte_counts_and_a_cut_answer_is_told_apart() -> None:
    unanswered = request(sent=99.0, error="closed without a byte", status=None, first_byte=None)
    refused = request(sent=99.0, error="503: no_replica_available", status=503)
    cut = request(sent=99.0, error="closed before the end")
    assert counted("pause", unanswered, refused, cut, request(sent=99.0)) == (2, 1, 0)


def test_what_a_killed_gateway_process_held_is_its_own_death() -> None:
    held = request(sent=99.0, error="closed without a byte", status=None, first_byte=None)
    soon = request(sent=102.0, error="Connection refused", status=None, first_byte=None)
    late = request(sent=104.0, error="Connection refused", status=None, first_byte=None)
    wrong = request(sent=99.0, error="502: replica_failed", status=502)
    assert counted("worker", held, soon, late, wrong) == (3, 0, 1)
    assert counted("gateway", held, soon, late, wrong) == (2, 0, 2)


def samples(*differences: int) -> list[Sample]:
    return [
        Sample(at=0.2 * number, takes={}, in_flight={"a": 2, "b": 1 + difference}, sent=3)
        for number, difference in enumerate(differences)
    ]


def test_counts_that_differ_for_a_moment_are_right() -> None:
    assert counts_wrong(samples(*[0, 1, 0, -1] * 20)) == 0.0


def test_counts_that_stay_wrong_are_timed() -> None:
    assert counts_wrong(samples(*[0] * 20, *[1] * 40, *[0] * 20)) == pytest.approx(8.0, abs=2.0)
    assert counts_wrong(samples(*[0] * 20, *[1] * 60)) > 5.0


def test_each_limit_that_is_missed_is_named() -> None:
    result = Result(fault="pause", does="x", failed_before_a_byte=1, out_seconds=11.0, counts_wrong_seconds=6.0)
    judge(result, fault("pause"))
    assert len(result.missed) == 3
    good = Result(fault="gateway", does="x", back_seconds=2.0)
    judge(good, fault("gateway"))
    assert good.missed == []
    slow = Result(fault="gateway", does="x", back_seconds=None)
    judge(slow, fault("gateway"))
    assert slow.missed == ["it does not serve again within 3 s"]
    full = Result(fault="disk", does="x", out_seconds=time.monotonic())
    judge(full, fault("disk"))
    assert full.missed == ["the replica was taken out"]
