"""What vLLM's API server does between Docker's SIGTERM and its end: middleware of every engine (`--middleware`).

vLLM (0.32) lets requests in flight end, for `--shutdown-timeout`, and goes on listening. What comes in then is an error
500 with a traceback in the log; and what was being tokenised at that moment reaches the EngineCore too late and is
**answered**: status 200, no text, finish_reason "abort". Clients take that for the model's words (3 of 6 engines that
were stopped under load gave one).

Here SIGTERM first makes a POST, and /health, a 503: the gateway asks another replica, and sends this one nothing more.
vLLM begins to end when those that had come in before are done, or after WAIT_SECONDS: it has them all by then.
"""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# A long prompt, or an image that vLLM fetches. GRACE_SECONDS of vllmstack/render/engines.py has room for it.
WAIT_SECONDS = 5.0
LOOK_SECONDS = 0.02
HEALTH = b"ending"  # docker/engine/health.py looks for it
# The gateway's own words: they reach a client only where there is no other replica.
REFUSAL = json.dumps(
    {
        "error": {
            "message": "No replica of the model answers now.",
            "type": "server_error",
            "param": None,
            "code": "no_replica_available",
        }
    }
).encode()


class Ending:
    """ASGI middleware; one to a process of the API server."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.listens = False
        self.ends = False
        self.in_flight = 0
        self.handing_over: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if not self.listens:
            self.listen()
        if self.ends and scope["path"] == "/health":
            return await answer(send, b"text/plain", HEALTH)
        if scope["method"] != "POST":
            return await self.app(scope, receive, send)
        if self.ends:
            await read(receive)
            return await answer(send, b"application/json", REFUSAL)
        self.in_flight += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self.in_flight -= 1

    def listen(self) -> None:
        """Takes SIGTERM over, at the first request: vLLM has set its handlers then, the same for SIGINT."""
        self.listens = True
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.end)

    def end(self) -> None:
        """On SIGTERM."""
        if not self.ends:
            self.ends = True
            self.handing_over = asyncio.get_running_loop().create_task(self.hand_over())

    async def hand_over(self) -> None:
        """Leaves the rest to vLLM, whose own end SIGINT begins just as SIGTERM would have."""
        loop = asyncio.get_running_loop()
        last = loop.time() + WAIT_SECONDS
        while self.in_flight and loop.time() < last:
            await asyncio.sleep(LOOK_SECONDS)
        signal.raise_signal(signal.SIGINT)


async def read(receive: Receive) -> None:
    """A request's body, to its end: uvicorn closes a connection on which some of it is left."""
    while (await receive()).get("more_body"):
        pass


async def answer(send: Send, content_type: bytes, body: bytes) -> None:
    """A 503."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
