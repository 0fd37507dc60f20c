"""Client and upstream of the gateway's cost measurement, one against the other."""

import argparse
import asyncio
from typing import Any

import pytest

from scripts import bench_gateway_client, bench_gateway_upstream


def measured(*, events: int, streams: int, requests: int, breaks_off: bool = False) -> dict[str, Any]:
    """What the client says about an upstream in the same process."""

    async def both() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        pace = bench_gateway_upstream.Pace(loop, 1, 0)
        connections: list[bench_gateway_upstream.Connection] = []

        def connection() -> bench_gateway_upstream.Connection:
            connections.append(bench_gateway_upstream.Connection(pace))
            return connections[-1]

        server = await loop.create_server(connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def break_off() -> None:
            while pace.running < streams or pace.events < 10:
                await asyncio.sleep(0.001)
            for one in connections:
                one._transport.abort()

        breaking = asyncio.create_task(break_off()) if breaks_off else None
        options = argparse.Namespace(
            urls=[f"http://127.0.0.1:{port}"], streams=streams, events=events, requests=requests, ramp=0.0
        )
        found = await bench_gateway_client.run(options)
        server.close()
        if breaking:
            await breaking
        return found

    return asyncio.run(asyncio.wait_for(both(), 60))


def test_every_event_of_every_request_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(events=20, streams=3, requests=9)

    assert (found["requests"], found["events"], found["errors"]) == (9, 180, {})
    assert 0 < found["ttft_p50_seconds"] <= found["ttft_p99_seconds"] < 5
    assert capsys.readouterr().out == "started\n"


def test_a_stream_that_breaks_off_is_an_error() -> None:
    found = measured(events=100_000, streams=2, requests=2, breaks_off=True)

    assert found["requests"] == 0
    assert sum(found["errors"].values()) == 2


def test_an_event_has_its_240_bytes() -> None:
    assert len(bench_gateway_upstream.event()) == 240


@pytest.mark.parametrize("cut", range(1, 30))
def test_an_event_that_comes_in_two_parts_is_counted_once(cut: int) -> None:
    tally = bench_gateway_client.Tally(1, 1)
    stream = bench_gateway_client.Stream(tally, iter([b"request"]), 3)  # type: ignore[arg-type]
    transport = Recording()
    stream.connection_made(transport)
    answer = bench_gateway_upstream.HEAD + 3 * bench_gateway_upstream.EVENT + bench_gateway_upstream.DONE
    middle = len(bench_gateway_upstream.HEAD) + len(bench_gateway_upstream.EVENT) + cut

    for part in (answer[:middle], answer[middle:]):
        stream.data_received(part)

    assert (tally.ended, tally.events, tally.errors) == (1, 3, {})


class Recording(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
