"""A Sender in a process of its own, since importing Locust patches the process: it stands still while it sends.

One line of JSON on stdin: ``options`` (of RunOptions), and ``stall``: when, seconds after the run's start, and for how
long. On stdout: what the sender reported when it had finished.
"""

import json
import sys
from typing import Any

import gevent
import gevent.monkey
from locust.env import Environment

from loadtest.coordination.sender import FINISHED, PREPARED, Sender


class Runner:
    """Keeps what the sender tells its leader."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}

    def send_message(self, kind: str, data: dict[str, Any]) -> None:
        self.told[kind] = data


command = json.load(sys.stdin)
begin, seconds = command["stall"]
environment = Environment()
environment.runner = runner = Runner()  # type: ignore[assignment]
sender = Sender(environment)
sender.prepare({"options": command["options"], "salt": "x", "index": 0, "count": 1})
if runner.told[PREPARED]["problem"]:
    raise SystemExit(runner.told[PREPARED]["problem"])
sender.go({"in_seconds": 0.2})
gevent.sleep(max(begin - sender.now(), 0.0))
stand_still = gevent.monkey.get_original("time", "sleep")
stand_still(seconds)  # not gevent's: nothing else of this process runs meanwhile
with gevent.Timeout(120):
    while FINISHED not in runner.told:
        gevent.sleep(0.02)
print(json.dumps(runner.told[FINISHED]))
