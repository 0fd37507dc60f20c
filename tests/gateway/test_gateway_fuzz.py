"""Ten thousand hostile requests: each gets an OpenAI-shaped refusal or its own answer, and nothing is left of them.

The seed is printed; ``VLLMSTACK_FUZZ_SEED`` sets another.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.networks import Network

from tests.gateway.containers import HTTP, GatewayContainer, Replica, deployment, eventually
from tests.gateway.fuzzing import CHAT, GENERATE, KNOWN_KEY, PATHS, bodies, heavy, keyed, marker_of, posted
from tests.gateway.fuzzing_http import broken, slow
from tests.gateway.verdicts import body_of, echoes, fault_of
from tests.gateway.wire import Outcome, connected, read_answer, sent

SEED = int(os.environ.get("VLLMSTACK_FUZZ_SEED", "4"))
BODIES, BROKEN, SLOW, KEYED = 6460, 2000, 40, 1500
"""Ten thousand, to two gateways: the last ask for a key."""

SERVER = """
    client_header_timeout 8s;
    client_body_timeout 8s;
    location = /-/zones { content_by_lua_file /etc/vllmstack/gateway/zones.lua; }
"""
"""More of the gateway's server: shorter timeouts, and what is in its shared memory."""


@dataclass
class Target:
    """A gateway under fire."""

    gateway: GatewayContainer
    outcomes: list[Outcome] = field(default_factory=list)
    workers: list[set[str]] = field(default_factory=list)
    """Their process ids, before and after."""

    def processes(self) -> set[str]:
        top = self.gateway.container.top(ps_args="-o pid,args")
        return {pid for pid, command in top["Processes"] if "worker process" in command}

    def zones(self) -> dict[str, Any]:
        found: dict[str, Any] = HTTP.get(f"{self.gateway.url}/-/zones").json()
        return found


@dataclass
class Fire:
    """What was sent, and what became of it."""

    targets: list[Target]
    canaries: list[str] = field(default_factory=list)
    """What was wrong with the answers of the client of good will."""
    sung: int = 0
    """Its requests."""
    seconds: float = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    """What reached an engine."""

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for target in self.targets for outcome in target.outcomes]


async def sing(fire: Fire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """One honest request; what is wrong with its answer, or nothing."""
    fire.sung += 1
    marker = f"canary-{fire.sung}z"
    body = json.dumps({"model": "smoke", "prompt": f"{marker} {random.random()}"}).encode()
    headers = [b"Authorization: Bearer " + KNOWN_KEY.encode()]
    writer.write(posted((CHAT, GENERATE)[fire.sung % 2], marker, body, headers, random.Random(fire.sung)))
    answer = await asyncio.wait_for(read_answer(reader), 30)
    if answer is None or answer.status != 200 or answer.headers["x-request-id"] != marker:
        return f"{marker} got {answer}"
    (echo,) = echoes(answer)
    if dict(echo["headers"])["x-request-id"] != marker or json.loads(body_of(echo)) != json.loads(body):
        return f"{marker} got {echo}"
    return ""


async def canary(fire: Fire, target: Target, stop: asyncio.Event) -> None:
    """Asks for what it knows the answer to, all the time, and notes every answer that is another one."""
    while not stop.is_set():
        try:
            async with connected(target.gateway.host, target.gateway.port) as (reader, writer):
                for _ in range(20):
                    fire.canaries += filter(None, [await sing(fire, reader, writer)])
                    await asyncio.sleep(0.02)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as problem:
            fire.canaries.append(repr(problem))


async def shoot(fire: Fire) -> None:
    """Everything at both gateways, and a canary at each."""
    rng = random.Random(SEED)
    plain, asking = fire.targets
    cases = [*broken(BROKEN, rng), *bodies(BODIES, rng), *slow(SLOW, rng)]
    stop = asyncio.Event()
    canaries = [asyncio.create_task(canary(fire, target, stop)) for target in fire.targets]
    plain.outcomes, asking.outcomes = await asyncio.gather(
        sent(plain.gateway.host, plain.gateway.port, cases, 40),
        sent(asking.gateway.host, asking.gateway.port, keyed(KEYED, rng), 8),
    )
    stop.set()
    await asyncio.gather(*canaries)


@pytest.fixture(scope="module")
def targets(
    engine: docker.DockerClient, network: Network, fleet: dict[str, Replica], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Target]]:
    """Two gateways before the same engines; the second asks for a key."""
    key = {"name": "alice", "sha256": hashlib.sha256(KNOWN_KEY.encode()).hexdigest()}
    limits = {"requests_per_minute": 100_000, "tokens_per_minute": 10**12, "concurrency": 1000}
    secrets = {"api_keys": json.dumps({"keys": [key | limits]})}
    made = []
    for described, files in ((deployment(), {}), (deployment(api_keys_file="keys.json"), secrets)):
        gateway = GatewayContainer(engine, network, tmp_path_factory.mktemp("fuzzed"), described, files)
        rendered = gateway.folder / "gateway"
        (rendered / "zones.lua").write_text((Path(__file__).parent / "zones.lua").read_text())
        (rendered / "listen.conf").write_text((rendered / "listen.conf").read_text() + SERVER)
        made.append(Target(gateway))
    try:
        yield [Target(target.gateway.start()) for target in made]
    finally:
        for target in made:
            target.gateway.container.remove(force=True)


@pytest.fixture(scope="module")
def fire(targets: list[Target], fleet: dict[str, Replica]) -> Fire:
    """All requests sent, all answers read."""
    print(f"seed {SEED}")
    for replica in fleet.values():
        replica.reset()
        replica.control(mode="echo")
    fired = Fire(targets)
    for target in targets:
        target.workers.append(target.processes())
    began = time.monotonic()
    asyncio.run(shoot(fired))
    fired.seconds = time.monotonic() - began
    for target in targets:
        target.workers.append(target.processes())
    fired.seen = [request for replica in fleet.values() for request in replica.seen()["requests"]]
    ends = Counter(answer.status for outcome in fired.outcomes for answer in outcome.answers)
    print(f"{len(fired.outcomes)} cases and {fired.sung} honest requests in {fired.seconds:.1f} s: {dict(ends)}")
    return fired


def test_ten_thousand_requests_were_made_and_many_of_each_end_came(fire: Fire) -> None:
    assert len(fire.outcomes) == 10_000
    assert fire.seconds < 60
    ends = Counter(answer.status for outcome in fire.outcomes for answer in outcome.answers)
    assert min(ends[status] for status in (200, 400, 401, 404)) > 100, ends
    assert {405, 413, 414, 431, 501, 505} <= set(ends)


def test_every_answer_is_a_refusal_in_openais_shape_or_the_requests_own(fire: Fire) -> None:
    faults = [f"{outcome.case.kind} {outcome.case.markers}: {fault_of(outcome)}" for outcome in fire.outcomes]
    wrong = [fault for fault in faults if not fault.endswith(": ")]
    assert not wrong, f"seed {SEED}, {len(wrong)} of them:\n" + "\n".join(wrong[:20])


def test_clients_of_good_will_get_their_own_answers_meanwhile(fire: Fire) -> None:
    assert fire.sung > 100
    assert not fire.canaries, fire.canaries[:5]


def test_no_hidden_request_and_none_without_a_key_reaches_an_engine(fire: Fire) -> None:
    seen = {dict(request["headers"])["x-request-id"] for request in fire.seen}
    assert not [marker for marker in seen if marker.startswith("smuggled")]
    refused = {marker for outcome in fire.outcomes if not outcome.case.admitted for marker in outcome.case.markers}
    assert not seen & refused
    assert {request["path"] for request in fire.seen} <= set(PATHS)


def test_no_worker_dies_and_lua_raises_nothing(fire: Fire) -> None:
    for target in fire.targets:
        assert target.workers[0] == target.workers[1]
        logs = target.gateway.container.logs(stdout=False).decode()
        bad = r"exited on signal|lua entry thread|runtime error|\[(?:emerg|alert|crit)\]|routing: |stack traceback"
        assert not [line for line in logs.splitlines() if re.search(bad, line)][:5]


def test_nothing_is_in_flight_pending_or_queued_afterwards(fire: Fire) -> None:
    for target in fire.targets:

        def idle(target: Target = target) -> bool:
            names = ("requests_in_flight", "pending_prompt_tokens", "queued_requests")
            metrics = target.gateway.metrics()
            return not any(value for name, value in metrics.items() if name.startswith(names))

        eventually(idle)
        assert not target.zones()["held"]


def test_shared_memory_has_no_more_than_the_deployment_makes(fire: Fire) -> None:
    for target in fire.targets:
        sizes = target.zones()["sizes"]
        assert sizes["counters"] < 300, sizes
        assert sizes["load"] < 150, sizes
        assert sizes["quota"] < 20, sizes
        assert sizes["api_keys"] <= 3, sizes
        assert sizes["replicas"] + sizes["facts"] + sizes["states"] < 60, sizes


def test_the_metrics_have_no_text_of_a_client(fire: Fire) -> None:
    words = {
        "smoke",
        "org/Other:1",
        "absent",
        "none",
        "unknown",
        "alice",
        "",
        "interactive",
        "batch",
        "prompt",
        "completion",
    }
    words |= {"engine-smoke-1", "engine-smoke-2", "engine-org-other-1-1", "engine-absent-1"}
    words |= {"active", "reading", "writing", "waiting", "full", "queue_timeout", "no_replica", "dead", "hung", "+Inf"}
    words |= {"starting", "serving", "draining", "refused", "restarted", "silent", "status", "unnamed", "unreachable"}
    for target in fire.targets:
        labels = {label for name in target.gateway.metrics() for label in re.findall(r'="([^"]*)"', name)}
        assert not {label for label in labels - words if not re.fullmatch(r"\d{3}|[0-9.]+", label)}


def test_bodies_made_to_stop_a_worker_take_little_time_and_memory(fire: Fire) -> None:
    gateway = fire.targets[0].gateway
    with gateway.client() as client:
        for name, body in heavy(8_000_000):
            began = time.monotonic()
            assert client.post(CHAT, content=body).status_code in (200, 400), name
            assert time.monotonic() - began < 15, name  # a fraction of a second where nothing else runs
    status = gateway.container.exec_run(["sh", "-c", "grep -h VmHWM /proc/[0-9]*/status"]).output
    assert isinstance(status, bytes)
    assert max(int(kib) for kib in re.findall(rb"(\d+) kB", status)) < 250 * 1024, status
    assert fire.targets[0].processes() == fire.targets[0].workers[0]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ('"d":' + "[" * 1000 + "]" * 1000, "request_too_complex"),
        ('"d":[' + "[]," * 250_000 + "1]", "request_too_complex"),
        ('"d":[' + "1," * 1_100_000 + "1]", "request_too_complex"),
        ('"d":' + "[" * 998 + "]" * 998, None),
        ('"d":[' + "[]," * 60_000 + "1]", None),
    ],
    ids=["deeper", "more lists", "more values", "deep", "large"],
)
def test_a_body_with_more_parts_than_anybodys_is_refused(fire: Fire, members: str, code: str | None) -> None:
    with fire.targets[0].gateway.client() as client:
        answer = client.post(CHAT, content='{"model":"org/Other:1",' + members + "}")
    assert (answer.json()["error"]["code"] if answer.status_code == 400 else None) == code
    assert answer.status_code == (400 if code else 200)


def test_a_seed_makes_the_same_requests_again() -> None:
    first, second = (list(bodies(200, random.Random(7))) + list(broken(200, random.Random(7))) for _ in range(2))
    assert first == second
    assert marker_of("a_b", 1) == "fuzz-a-b-1z"
