"""The client of the benches on real engines."""

import asyncio

import pytest

from scripts.bench_gateway_chat import Answered, ask

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"completion_tokens":2}}\n\n'


def answered(*parts: bytes) -> Answered:
    """What `ask` makes of these bytes."""

    async def both() -> Answered:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        messages = [{"role": "user", "content": "hello"}]
        found = await ask(f"http://127.0.0.1:{port}", model="m", messages=messages, max_tokens=2)
        server.close()
        return found

    return asyncio.run(asyncio.wait_for(both(), 60))


def test_an_answer_is_read_to_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

    found = answered(head, EVENT % b"Pa", EVENT % b"ris", USAGE + b"data: [DONE]\n\n")

    assert (found.status, found.text, found.tokens) == (200, "Paris", 2)
    assert found.ttft_seconds is not None
    assert found.head_seconds <= found.ttft_seconds < found.seconds


def test_an_answer_that_breaks_off_is_none() -> None:
    found = answered(b"HTTP/1.1 200 OK\r\n\r\n", EVENT % b"Pa")

    assert found.status == 0


def test_a_refusal_keeps_its_status() -> None:
    found = answered(b'HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n\r\n{"error":{}}')

    assert (found.status, found.ttft_seconds) == (429, None)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 "])
def test_no_answer_at_all_is_status_0(said: bytes) -> None:
    assert answered(said).status == 0
