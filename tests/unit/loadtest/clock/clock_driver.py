"""A TokenClient in a process of its own, since importing Locust patches the process: commands in, observations out.

Each line on stdin is a JSON object: ``url``, ``request`` (fields of Request, ``body`` as JSON), and as wished
``timeouts``, ``api_key``, ``certificates``, ``kill_after_chunks``. Requests with the same url share a session.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook

from loadtest.clock.observation import Observation
from loadtest.clock.stream import Timeouts, TokenClient, session
from loadtest.workload.steps import Request

START = time.perf_counter()
fired: list[dict[str, Any]] = []
sessions: dict[str, FastHttpSession] = {}


def remember(**event: Any) -> None:
    error = event["exception"]
    kept = ("request_type", "name", "response_time", "response_length", "url")
    fired.append({**{name: event[name] for name in kept}, "exception": None if error is None else str(error)})


EVENTS = EventHook()  # type: ignore[no-untyped-call]
EVENTS.add_listener(remember)  # type: ignore[no-untyped-call]


def obey(command: dict[str, Any]) -> dict[str, Any]:
    timeouts = Timeouts(**command.get("timeouts", {}))
    key = command["url"] + command.get("certificates", "")
    if key not in sessions:
        certificates = Path(command["certificates"]) if "certificates" in command else None
        sessions[key] = session(
            command["url"], request_event=EVENTS, concurrency=8, timeouts=timeouts, certificates=certificates
        )
    client = TokenClient(
        sessions[key],
        now=lambda: time.perf_counter() - START,
        api_key=command.get("api_key"),
        timeouts=timeouts,
    )
    request = Request(**{**command["request"], "body": json.dumps(command["request"]["body"]).encode()})
    fired.clear()
    begun: list[Observation] = []
    sending = gevent.spawn(client.send, request, scheduled_at=1.5, begin=begun.append)
    if "kill_after_chunks" in command:
        with gevent.Timeout(30):
            while not begun or len(begun[0].chunk_times) < command["kill_after_chunks"]:
                gevent.sleep(0.01)
        sending.kill()
        return {"observation": dataclasses.asdict(begun[0]), "text": None, "fired": list(fired)}
    observation, text = sending.get()
    assert begun == [observation]
    seen = dataclasses.asdict(observation)
    seen["ttft_seconds"] = observation.ttft_seconds
    return {"observation": seen, "text": text, "fired": list(fired)}


for line in sys.stdin:
    answer = obey(json.loads(line))
    gevent.sleep(0.001)  # the event loop closes sockets when it comes round, and reading stdin stops it
    print(json.dumps(answer), flush=True)
