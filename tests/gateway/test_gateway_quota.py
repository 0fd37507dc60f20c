"""quota.lua alone: what a key may use in any minute, with times that the test chooses."""

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
from docker.models.networks import Network

from tests.gateway.containers import GATEWAY_IMAGE, PREFIX, address, eventually

MINUTE = 60_000
NOW = 29_384_512 * MINUTE
"""Milliseconds; the beginning of a minute."""


class Quota:
    """Its functions, called in the gateway's image."""

    def __init__(self, url: str) -> None:
        self.http = httpx2.Client(base_url=url, timeout=10)

    def ask(self, function: str, *arguments: Any) -> httpx2.Response:
        return self.http.post(f"/{function}", content=json.dumps(arguments))

    def call(self, function: str, *arguments: Any) -> Any:
        answer = self.ask(function, *arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()[0]

    def take(self, policy: dict[str, Any], *, tokens: int = 0, at: float = 0) -> dict[str, Any]:
        """``at`` is in seconds after NOW. A receipt, or why there is none."""
        receipt, *refused = self.ask("take", policy, tokens, NOW + at * 1000).json()
        return {"ok": True, "receipt": receipt} if receipt is not None else {"ok": False, **refused[0]}

    def counters(self, name: str) -> dict[str, float]:
        """Of one key, without those that are zero."""
        return {key: value for key, value in self.call("counters").items() if f"|{name}" in key and value}


@pytest.fixture(scope="module")
def quota(engine: docker.DockerClient, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quota]:
    folder = tmp_path_factory.mktemp("quota")
    for file in (Path(__file__).parent / "quota").iterdir():
        (folder / file.name).write_text(file.read_text())
    folder.chmod(0o755)  # nginx is another user
    container = engine.containers.run(
        GATEWAY_IMAGE,
        ["nginx", "-e", "stderr", "-c", "/calls/nginx.conf", "-g", "daemon off;"],
        name=f"{PREFIX}{uuid.uuid4().hex[:8]}-quota",
        network=network.name,
        volumes={str(folder): {"bind": "/calls", "mode": "ro"}},
        tmpfs={"/tmp": "mode=1777,size=16m"},  # noqa: S108 - the container's own
        detach=True,
    )
    try:
        made = Quota(f"http://{address(container, network)}:8080")

        def answers() -> bool:
            try:
                return made.ask("counters").status_code == 200
            except httpx2.TransportError:
                container.reload()
                assert container.status != "exited", container.logs().decode()
                return False

        eventually(answers)
        yield made
    finally:
        container.remove(force=True)


def key(**limits: int) -> dict[str, Any]:
    """A policy of a name that no other test has."""
    unlimited = {"requests_per_minute": None, "tokens_per_minute": None, "concurrency": None}
    return {"name": f"key-{uuid.uuid4().hex[:8]}", **unlimited, **limits}


def test_a_key_without_limits_takes_nothing(quota: Quota) -> None:
    policy = key()

    assert quota.take(policy, tokens=1_000_000) == {"ok": True, "receipt": ""}
    assert quota.counters(policy["name"]) == {}


def test_so_many_requests_pass_in_a_minute_and_the_next_is_told_when(quota: Quota) -> None:
    policy = key(requests_per_minute=3)

    taken = [quota.take(policy, at=at) for at in (0, 10, 20, 30)]

    assert [one["ok"] for one in taken] == [True, True, True, False]
    # In the next minute, when 3 × (1 − t ÷ 60) + 1 is 3: 20 s after its beginning.
    assert taken[3] == {"ok": False, "kind": "requests", "retry_seconds": 50, "requested": 1}
    assert not quota.take(policy, at=79)["ok"]
    assert quota.take(policy, at=80)["ok"]


def test_the_window_slides_over_the_end_of_a_minute(quota: Quota) -> None:
    policy = key(requests_per_minute=10)
    for _ in range(10):
        assert quota.take(policy, at=59)["ok"]

    # Two buckets that each start at zero would let ten more pass here.
    assert not quota.take(policy, at=61)["ok"]
    assert [quota.take(policy, at=66)["ok"] for _ in range(2)] == [True, False]
    assert quota.take(policy, at=66)["retry_seconds"] == 6
    assert [quota.take(policy, at=72)["ok"] for _ in range(2)] == [True, False]
    assert [quota.take(policy, at=300)["ok"] for _ in range(11)] == [True] * 10 + [False]


def test_after_the_time_that_was_told_the_request_passes(quota: Quota) -> None:
    for used, asked, at in ((900, 200, 5), (900, 1000, 59.5), (1000, 1, 0), (350, 700, 30), (999, 2, 12.3)):
        policy = key(tokens_per_minute=1000)
        assert quota.take(policy, tokens=used, at=0)["ok"]

        refused = quota.take(policy, tokens=asked, at=at)

        assert refused["kind"] == "tokens"
        assert not quota.take(policy, tokens=asked, at=at + refused["retry_seconds"] - 1.01)["ok"]
        assert quota.take(policy, tokens=asked, at=at + refused["retry_seconds"])["ok"]


def test_what_is_refused_takes_nothing(quota: Quota) -> None:
    policy = key(requests_per_minute=9, tokens_per_minute=100, concurrency=1)
    quota.take(policy, tokens=60)
    before = quota.counters(policy["name"])

    kinds = [quota.take(policy, tokens=tokens)["kind"] for tokens in (60, 10, 101)]

    assert kinds == ["tokens", "concurrency", "tokens"]
    assert quota.counters(policy["name"]) == before
    assert before[f"r|{policy['name']}|29384512"] == 1
    assert before[f"t|{policy['name']}|29384512"] == 60
    assert before[f"c|{policy['name']}"] == 1


def test_a_request_that_can_never_pass_is_told_no_time(quota: Quota) -> None:
    assert quota.take(key(tokens_per_minute=100), tokens=101) == {
        "ok": False, "kind": "tokens", "requested": 101,
    }  # fmt: skip


def test_real_tokens_take_the_place_of_the_estimate(quota: Quota) -> None:
    policy = key(requests_per_minute=9, tokens_per_minute=1000)
    counter = f"t|{policy['name']}|29384512"
    receipt = quota.take(policy, tokens=800)["receipt"]

    quota.call("settle", receipt, 50)

    assert quota.counters(policy["name"]) == {counter: 50, f"r|{policy['name']}|29384512": 1}
    assert quota.take(policy, tokens=950)["ok"]


def test_tokens_beyond_the_estimate_count_now(quota: Quota) -> None:
    policy = key(tokens_per_minute=1000)
    receipt = quota.take(policy, tokens=100)["receipt"]

    quota.call("settle", receipt, 5000)

    counters = quota.counters(policy["name"])
    assert counters.pop(f"t|{policy['name']}|29384512") == 100
    assert list(counters.values()) == [4900]


def test_what_nobody_can_tell_stays_as_it_was_estimated(quota: Quota) -> None:
    policy = key(tokens_per_minute=1000)
    receipt = quota.take(policy, tokens=100)["receipt"]

    quota.call("settle", receipt, "unknown")

    assert quota.counters(policy["name"]) == {f"t|{policy['name']}|29384512": 100}


def test_a_failed_request_gives_everything_back(quota: Quota) -> None:
    policy = key(requests_per_minute=1, tokens_per_minute=1000, concurrency=1)
    receipt = quota.take(policy, tokens=1000)["receipt"]

    quota.call("settle", receipt)

    assert quota.counters(policy["name"]) == {}


def test_a_place_is_free_again_when_its_request_has_ended(quota: Quota) -> None:
    policy = key(concurrency=2)
    receipts = [quota.take(policy)["receipt"] for _ in range(2)]
    refused = quota.take(policy)

    quota.call("settle", receipts[0], 7)

    assert (refused["kind"], refused["retry_seconds"]) == ("concurrency", 1)
    assert [quota.take(policy)["ok"] for _ in range(2)] == [True, False]


def test_two_workers_never_let_one_more_pass(quota: Quota) -> None:
    policy = key(requests_per_minute=40, tokens_per_minute=400, concurrency=40)

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: quota.take(policy, tokens=10), range(120)))

    assert sum(one["ok"] for one in taken) <= 40
    name = policy["name"]
    counters = quota.counters(name)
    let_in = sum(one["ok"] for one in taken)
    assert counters[f"r|{name}|29384512"] == let_in
    assert counters[f"t|{name}|29384512"] == 10 * let_in
    assert counters[f"c|{name}"] == let_in


def test_headers_tell_what_is_left_as_openai_writes_it(quota: Quota) -> None:
    policy = key(requests_per_minute=5, tokens_per_minute=1000)
    assert not [name for name in quota.ask("headers", key(concurrency=3)).headers if name.startswith("x-ratelimit")]
    fresh = quota.ask("headers", policy).headers
    assert [fresh[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset")] == ["5", "5", "0s"]
    assert [fresh[f"x-ratelimit-{what}-tokens"] for what in ("limit", "remaining", "reset")] == ["1000", "1000", "0s"]

    for _ in range(2):
        quota.call("settle", quota.call("take", policy, 1, time.time() * 1000), 300)

    used = quota.ask("headers", policy).headers
    # Between two minutes the older one counts less and less.
    assert 3 <= int(used["x-ratelimit-remaining-requests"]) <= 4
    assert 400 <= int(used["x-ratelimit-remaining-tokens"]) <= 500
    for what in ("requests", "tokens"):
        assert used[f"x-ratelimit-reset-{what}"].endswith("s")


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (
            {"kind": "requests", "retry_seconds": 12, "requested": 1},
            "The key `alice` has 5 requests a minute. Try again in 12 s.",
        ),
        (
            {"kind": "tokens", "retry_seconds": 3, "requested": 800},
            "The key `alice` has 1000 tokens a minute, and this request may take 800. Try again in 3 s.",
        ),
        (
            {"kind": "tokens", "retry_seconds": None, "requested": 2000},
            "The key `alice` has 1000 tokens a minute, and this request may take 2000: shorten the prompt, or ask for "
            "a shorter answer (`max_tokens`).",
        ),
        (
            {"kind": "concurrency", "retry_seconds": 1, "requested": 8},
            "The key `alice` has 2 requests at the same time. Try again in 1 s.",
        ),
    ],
)
def test_a_refusal_says_why_and_when(quota: Quota, refused: dict[str, Any], says: str) -> None:
    policy = {"name": "alice", "requests_per_minute": 5, "tokens_per_minute": 1000, "concurrency": 2}

    assert quota.call("reason", policy, refused) == says
