"""Prometheus and Alertmanager of the running stack, asked from within: nothing of them is published."""

import json
import re
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
RULES = "http://prometheus:9090/api/v1/rules"
ALERTMANAGER = "http://alertmanager:9093/api/v2/alerts"

LIMIT = re.compile(r"\s(==|!=|[<>]=?)\s+[\d.]+\s*$")
"""At the end of an alert's expression: without it, the expression gives its value whether it is too high or not."""

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

    def pending(self) -> set[str]:
        """Names of the alerts whose expression holds, told or not yet; without those that ``alerts`` leaves out."""
        found = self.queries({"it": 'ALERTS{alertname!="Watchdog", job!="host"}'})["it"]
        return {sample["metric"]["alertname"] for sample in found}

    def serving(self) -> set[str]:
        """Replicas that the gateway gives requests to."""
        found = self.queries({"it": 'vllmstack_gateway_replica_state{job="gateway", state="serving"} == 1'})["it"]
        return {sample["metric"]["replica"] for sample in found}

    def explained(self, *alerts: str) -> str:
        """For a person: what Prometheus makes of alerts' rules, and of their expressions in the last minutes."""
        lines = []
        for alert in alerts:
            groups = self.ask({"it": (RULES, {"type": "alert", "rule_name[]": alert})})["it"]["data"]["groups"]
            for rule in (rule for group in groups for rule in group["rules"]):
                lines.append(f"{alert}: {rule['state']}, {rule['health']}, for {rule['duration']} s: {rule['query']}")
                lines += [f"  {one['state']} since {one['activeAt']}: {one['labels']}" for one in rule["alerts"]]
                lines += self._history(f"({LIMIT.sub('', rule['query'])})[3m:15s]")
        lines.append("share of scrapes that failed in three minutes:")
        failed = self.queries({"it": '1 - avg_over_time(up{job!="loadtest"}[3m]) > 0'})["it"]
        return "\n".join([*lines, *(f"  {one['metric']}: {one['value'][1]}" for one in failed)])

    def _history(self, subquery: str) -> list[str]:
        """A line a series: its labels and its values."""
        return [
            f"  {one['metric']}: {' '.join(value for _, value in one['values'])}"
            for one in self.queries({"it": subquery})["it"]
        ]
