"""Prometheus and Alertmanager of the running stack, asked from within: nothing of them is published."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.stack.conftest import Stack

ASK = """
import json, sys, urllib.parse, urllib.request
answers = {}
for name, (url, fields) in json.load(open("/dev/stdin")).items():
    with urllib.request.urlopen(url + "?" + urllib.parse.urlencode(fields), timeout=30) as answer:
        answers[name] = json.load(answer)
json.dump(answers, sys.stdout)
"""

PROMETHEUS = "http://prometheus:9090/api/v1/query"
ALERTMANAGER = "http://alertmanager:9093/api/v2/alerts"

Samples = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Asks by a program in the container-exporter's container, which has Python and is on that network."""

    stack: Stack

    def ask(self, questions: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, Any]:
        """JSON by name, of URLs with their fields; all in one container's process."""
        done = self.stack.clone.run(
            *("docker", "exec", "--interactive", self.stack.container("container-exporter").id or ""),
            *("python", "-c", ASK),
            input=json.dumps(questions),
        )
        answers: dict[str, Any] = json.loads(done.stdout)
        return answers

    def queries(self, expressions: Mapping[str, str], *, at: float | None = None) -> dict[str, Samples]:
        """Result vectors by name; ``at`` is unix seconds, now if left out."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        answers = self.ask({name: (PROMETHEUS, {"query": text, **moment}) for name, text in expressions.items()})
        return {name: answer["data"]["result"] for name, answer in answers.items()}

    def value(self, expression: str, *, at: float | None = None) -> float:
        """Of an expression that gives one sample."""
        (sample,) = self.queries({"it": expression}, at=at)["it"]
        return float(sample["value"][1])

    def alerts(self) -> set[tuple[str, str]]:
        """Name and model (or replica) of what Alertmanager holds active: told to somebody, and not inhibited.

        Without the watchdog, and without what is said of the machine that runs the tests.
        """
        told = self.ask({"alerts": (ALERTMANAGER, {"active": "true", "inhibited": "false", "silenced": "false"})})
        labels = [one["labels"] for one in told["alerts"]]
        return {
            (one["alertname"], one.get("replica") or one.get("model", ""))
            for one in labels
            if one["alertname"] != "Watchdog" and one.get("job") != "host"
        }
