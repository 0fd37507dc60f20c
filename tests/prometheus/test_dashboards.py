"""Queries of the dashboards as promtool reads them (target-promql-rule of Grafana's dashboard-linter)."""

import json
import re
import subprocess

import yaml

from tests.prometheus.test_rules import ROOT, image_with_promtool


def filled(expression: str) -> str:
    """As Grafana asks it with all values chosen."""
    return re.sub(r"\$(model|replica|gpu|scenario)\b", ".+", expression.replace("$__rate_interval", "1m"))


def test_every_query_of_a_dashboard_is_valid() -> None:
    boards = [json.loads(file.read_text()) for file in (ROOT / "grafana/dashboards").glob("*.json")]
    targets = [target for board in boards for panel in board["panels"] for target in panel.get("targets", [])]
    targets += [mark["target"] for board in boards for mark in board["annotations"]["list"]]
    queries = sorted({filled(target["expr"]) for target in targets})
    rules = [{"record": f"query_{number}", "expr": text} for number, text in enumerate(queries)]
    command = ["docker", "run", "--rm", "--interactive", "--network=none", "--entrypoint=/bin/promtool"]

    result = subprocess.run(
        [*command, image_with_promtool(), "check", "rules"],
        input=yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(queries)} rules found" in result.stdout
