"""Requests that wait: a thousand at once, and those whose clients have left meanwhile."""

import asyncio
import json
import re
from contextlib import AsyncExitStack

from tests.gateway.conftest import StartGateway
from tests.gateway.containers import HTTP, GatewayContainer, Replica, eventually
from tests.gateway.wire import Answer, connected, read_answer
from tests.standstill import running_seconds

WAITING = 1000
QUEUED = 'queued_requests{model="smoke",priority="interactive"}'


def request(text: str, model: str = "smoke", **mock: float) -> bytes:
    """2 KB, as a chat has."""
    body = json.dumps({"model": model, "prompt": f"{text} " + "x" * 2000, "mock": mock}).encode()
    return b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def resident_mib(gateway: GatewayContainer) -> float:
    """Memory of nginx's processes."""
    status = gateway.container.exec_run(["sh", "-c", "cat /proc/[0-9]*/status"]).output
    assert isinstance(status, bytes)
    return sum(int(kib) for kib in re.findall(rb"Name:\tnginx\n(?s:.*?)VmRSS:\s+(\d+) kB", status)) / 1024


def control(gateway: GatewayContainer, verb: str) -> None:
    """Takes both replicas out, or puts them back."""
    for replica in ("engine-smoke-1", "engine-smoke-2"):
        assert gateway.container.exec_run(["gateway-control", verb, replica]).exit_code == 0


async def together(gateway: GatewayContainer, count: int) -> tuple[list[Answer | None], list[float]]:
    """So many requests that wait for a replica, then their answers; and the gateway's memory before and while."""
    async with AsyncExitStack() as stack:
        memory = [resident_mib(gateway)]
        readers = []
        for number in range(count):
            reader, writer = await stack.enter_async_context(connected(gateway.host, gateway.port))
            writer.write(request(str(number)))
            readers.append(reader)
        await asyncio.to_thread(eventually, lambda: gateway.metrics()[QUEUED] == count, 60)
        memory.append(resident_mib(gateway))
        await asyncio.sleep(6)
        memory.append(resident_mib(gateway))
        control(gateway, "resume")
        return await asyncio.gather(*(read_answer(reader) for reader in readers)), memory


def test_a_thousand_requests_wait_for_a_replica_and_none_is_lost(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(model={"admission": {"max_in_flight": 64, "hold_seconds": 300}})
    control(gateway, "drain")
    answers, memory = asyncio.run(together(gateway, WAITING))
    assert {answer.status if answer else 0 for answer in answers} == {200}
    assert sum(len(replica.seen()["requests"]) for replica in replicas.values()) == WAITING
    assert gateway.metrics()[QUEUED] == 0
    print(f"MiB of memory before, with {WAITING} waiting, and six seconds later: {memory}")
    assert memory[1] - memory[0] < 0.05 * WAITING
    assert memory[2] - memory[1] < 0.01 * WAITING


async def leave(gateway: GatewayContainer, count: int) -> None:
    """Clients that give up; on connections that have served them before, as those of a pool have."""
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(connected(gateway.host, gateway.port)) for _ in range(count)]
        for reader, writer in pairs:
            writer.write(request("served", model="org/Other:1"))
            assert await read_answer(reader)
            writer.write(request("gone", delay=60))
        await asyncio.to_thread(eventually, lambda: gateway.metrics()[QUEUED] == count)


def test_no_engine_works_for_a_client_that_left_while_it_waited(
    start_gateway: StartGateway, replicas: dict[str, Replica]
) -> None:
    gateway = start_gateway(model={"admission": {"max_in_flight": 4, "hold_seconds": 300}})
    control(gateway, "drain")
    asyncio.run(leave(gateway, 40))
    control(gateway, "resume")
    began = running_seconds()
    assert (
        HTTP.post(f"{gateway.url}/v1/completions", json={"model": "smoke", "prompt": "x"}, timeout=30).status_code
        == 200
    )
    assert running_seconds() - began < 20
    eventually(lambda: sum(replica.seen()["active"] for replica in replicas.values()) == 0)

    def statuses() -> list[int]:
        return sorted(line["status"] for line in gateway.requests_logged() if line["model"] == "smoke")

    eventually(lambda: statuses() == [200] + [499] * 40)
