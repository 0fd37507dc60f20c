"""Which requests may be sent again, and after how long."""

import httpx2
import pytest

from vllmstack import repeating
from vllmstack.repeating import is_passing, pause_seconds, retry_after


@pytest.mark.parametrize(
    ("status", "passing"),
    [(200, False), (400, False), (401, False), (404, False), (408, True), (409, True), (429, True), (500, True),
     (501, True), (503, True), (529, True)],
)  # fmt: skip
def test_what_a_server_that_is_busy_or_broken_refused_may_be_sent_again(status: int, passing: bool) -> None:
    assert is_passing(status, httpx2.Headers()) is passing


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_server_says_not_to_send_again_is_not(status: int) -> None:
    assert not is_passing(status, httpx2.Headers({"X-Should-Retry": "false"}))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", None), ("3600", 30), ("-1", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("²", None)],
)
def test_a_servers_own_pause_is_kept_up_to_the_longest(text: str, seconds: float | None) -> None:
    assert retry_after(httpx2.Headers([(b"Retry-After", text.encode("latin-1"))])) == seconds
    assert retry_after(httpx2.Headers()) is None


def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    assert [pause_seconds(failures) for failures in (1, 2, 3, 6, 7, 8, 5000)] == [0.5, 1, 2, 16, 30, 30, 30]


def test_requests_that_were_refused_together_do_not_come_again_together() -> None:
    assert len({pause_seconds(1) for _ in range(8)}) > 1
    assert all(repeating.FIRST_PAUSE_SECONDS / 2 <= pause_seconds(1) <= repeating.FIRST_PAUSE_SECONDS for _ in range(8))
