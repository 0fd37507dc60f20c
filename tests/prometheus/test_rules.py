"""prometheus/ as promtool reads it: the configuration, the rules, and what the rules make of given series."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
import yaml

from prometheus import rules as rules_source
from tests.prometheus.cases import ALERTS, LATENCIES, AlertCase, latency_document
from vllmstack.deployment.model import Deployment, Monitoring
from vllmstack.host.image_supply import ImageSupply
from vllmstack.images import load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.project import find_project
from vllmstack.render.alertmanager import render_alertmanager
from vllmstack.render.prometheus import render_prometheus
from vllmstack.render.targets import RULES_FILE, render_targets

ROOT = Path(__file__).parents[2]
CASES = sorted(Path(__file__).parent.glob("*_test.yml"))
RULES = sorted((ROOT / "prometheus/rules").glob("*.yml"))

TARGETS_TEST = """\
# Model a ends 10 requests a second: 4 of them within 0.5 s, 4 more within 0.75 s, the rest within 1 s. 0.6 s lies two
# fifths into the bucket from 0.5 to 0.75: 5.6 are within it. 9 of 10 have their tokens within 0.05 s.
rule_files: [targets.yml, /clone/prometheus/rules/slo.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - series: vllm:time_to_first_token_seconds_bucket{job="engines", model="a", replica="a-1", le="0.5"}
        values: 0+60x40
      - series: vllm:time_to_first_token_seconds_bucket{job="engines", model="a", replica="a-1", le="0.75"}
        values: 0+120x40
      - series: vllm:time_to_first_token_seconds_bucket{job="engines", model="a", replica="a-1", le="1.0"}
        values: 0+150x40
      - series: vllm:time_to_first_token_seconds_count{job="engines", model="a", replica="a-1"}
        values: 0+150x40
      - series: vllm:request_time_per_output_token_seconds_bucket{job="engines", model="a", replica="a-1", le="0.05"}
        values: 0+135x40
      - series: vllm:request_time_per_output_token_seconds_count{job="engines", model="a", replica="a-1"}
        values: 0+150x40
    promql_expr_test:
      - expr: round(model:slo_bad:ratio_rate5m{slo=~"ttft|tpot"}, 0.0001)
        eval_time: 9m
        exp_samples:
          - {labels: '{model="a", slo="ttft"}', value: 0.44}
          - {labels: '{model="a", slo="tpot"}', value: 0.1}
      - expr: round(model:goodput:ratio_rate5m, 0.0001)
        eval_time: 9m
        exp_samples:
          - {labels: '{model="a"}', value: 0.46}
      - expr: model:slo_budget:ratio
        eval_time: 9m
        exp_samples:
          - {labels: 'model:slo_budget:ratio{model="a", slo="ttft"}', value: 0.05}
          - {labels: 'model:slo_budget:ratio{model="a", slo="tpot"}', value: 0.01}
          - {labels: 'model:slo_budget:ratio{model="a", slo="errors"}', value: 0.001}
          - {labels: 'model:slo_budget:ratio{model="a", slo="availability"}', value: 0.001}
          - {labels: 'model:slo_budget:ratio{model="b", slo="errors"}', value: 0.02}
          - {labels: 'model:slo_budget:ratio{model="b", slo="availability"}', value: 0.001}
      - expr: model:target_ttft_seconds:limit
        eval_time: 9m
        exp_samples:
          - {labels: 'model:target_ttft_seconds:limit{model="a", quantile="0.5"}', value: 0.2}
          - {labels: 'model:target_ttft_seconds:limit{model="a", quantile="0.95"}', value: 0.6}
"""

Promtool = Callable[..., subprocess.CompletedProcess[str]]


def image(name: str) -> str:
    """One of the stack's own, brought onto this machine as `vllmstack up` does it."""
    project = find_project(ROOT)
    known = load_images(project.images_file).images[name]
    return ImageSupply(project, docker.from_env()).provide({name: known})[name]


def image_with_promtool() -> str:
    """Prometheus'."""
    return image("prometheus")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are made here: from tables, and from a deployment's targets."""
    folder = tmp_path_factory.mktemp("made")
    folder.chmod(0o755)
    for metric in LATENCIES:
        (folder / f"{metric}.yml").write_text(yaml.safe_dump(latency_document(metric)))
    for number, case in enumerate(ALERTS):
        (folder / f"{case.alert}-{number}.yml").write_text(yaml.safe_dump(case.document()))
    (folder / "targets.yml").write_text(render_targets(plan_with_targets())[RULES_FILE])
    (folder / "targets_test.yml").write_text(TARGETS_TEST)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


@pytest.fixture(scope="session")
def promtool(made: Path) -> Promtool:
    """Runs the image's promtool; paths are relative to the clone, of which it sees rules and cases, read-only."""
    mounts = [f"--volume={ROOT / name}:/clone/{name}:ro" for name in ("prometheus", "tests/prometheus")]
    mounts.append(f"--volume={made}:/clone/made:ro")
    container = ["docker", "run", "--rm", "--network=none", "--workdir=/clone", "--entrypoint=/bin/promtool", *mounts]
    command = [*container, image_with_promtool()]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    return run


def rules(kind: str) -> set[str]:
    """Names of all that are recorded (`record`), or that alert (`alert`)."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return {rule[kind] for group in groups for rule in group["rules"] if kind in rule}


def plan_with_targets() -> Plan:
    """Model a: 95 % of first tokens within 0.6 s, of tokens within 0.05 s; b: an error ratio alone."""
    target = {"load": {"concurrency": 4}, "ttft_seconds": {"p50": 0.2, "p95": 0.6}, "tpot_seconds": {"p99": 0.05}}
    deployment = Deployment.model_validate(
        {
            "name": "test",
            "models": [
                {"name": "a", "source": {"directory": "."}, "targets": [target]},
                {
                    "name": "b",
                    "source": {"directory": "."},
                    "targets": [{"load": {"concurrency": 4}, "error_ratio": 0.02}],
                },
            ],
        }
    )
    return Plan(deployment=deployment, replicas=place(deployment.models, core_ids=[0]))


def test_the_configuration_is_valid(promtool: Promtool) -> None:
    # Syntax alone: rules and targets lie elsewhere in the container that it is written for.
    result = promtool("check", "config", "--syntax-only", "prometheus/prometheus.yml")

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_rules_are_valid_and_promtools_linter_finds_nothing(promtool: Promtool, file: Path) -> None:
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file.relative_to(ROOT)))

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name)
def test_rules_make_of_the_series_what_the_case_expects(promtool: Promtool, file: Path) -> None:
    result = promtool("test", "rules", str(file.relative_to(ROOT)))

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_rules_of_a_deployments_targets_are_valid(promtool: Promtool) -> None:
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", "made/targets.yml")

    assert result.returncode == 0, result.stdout + result.stderr


def test_rules_of_targets_give_the_share_that_misses_them(promtool: Promtool) -> None:
    result = promtool("test", "rules", "made/targets_test.yml")

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("metric", LATENCIES)
def test_quantiles_are_taken_of_summed_buckets(promtool: Promtool, metric: str) -> None:
    result = promtool("test", "rules", f"made/{metric}.yml")

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("number", "case"), list(enumerate(ALERTS)), ids=[f"{case.alert}-{number}" for number, case in enumerate(ALERTS)]
)
def test_an_alert_fires_not_too_early_and_not_for_what_is_near(
    promtool: Promtool, number: int, case: AlertCase
) -> None:
    result = promtool("test", "rules", f"made/{case.alert}-{number}.yml")

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_recording_rule_has_a_case(made: Path) -> None:
    files = [*CASES, *(made / f"{metric}.yml" for metric in LATENCIES)]
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]

    expressions = {case["expr"] for test in tests for case in test["promql_expr_test"]}
    assert {re.sub(r"round\((.+), 0\.0001\)", r"\1", one) for one in expressions} == rules("record")


def test_every_alert_has_its_cases() -> None:
    # It fires always: there is no series that could make it.
    assert {case.alert for case in ALERTS} == rules("alert") - {"Watchdog"}


def test_the_watchdog_always_fires(promtool: Promtool) -> None:
    result = promtool("test", "rules", "tests/prometheus/watchdog.yml")

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_runbook_and_no_runbook_is_left_over() -> None:
    folder = ROOT / "docs" / "runbooks"

    assert {file.stem for file in folder.glob("*.md")} - {"README"} == rules("alert")
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
                    assert {"summary", "description"} <= rule["annotations"].keys()


def test_alertmanager_reads_what_is_rendered(tmp_path: Path) -> None:
    receivers = {
        "page": {"webhook_configs": [{"url_file": "/run/secrets/alerts/page_url"}]},
        "warn": {
            "slack_configs": [{"api_url_file": "/run/secrets/alerts/slack_url", "channel": "#llm"}],
            "email_configs": [
                {
                    "to": "ops@example.org", "from": "llm@example.org", "smarthost": "mail.example.org:587",
                    "auth_username": "llm", "auth_password_file": "/run/secrets/alerts/mail_password",
                }
            ],
        },
    }  # fmt: skip
    base = (ROOT / "prometheus" / "alertmanager.yml").read_text()
    for number, given in enumerate(({}, receivers)):
        deployment = plan_with_targets().deployment.model_copy(
            update={"monitoring": Monitoring.model_validate({"receivers": given})}
        )
        file = tmp_path / f"{number}.yml"
        file.write_text(render_alertmanager(deployment, base)["alertmanager/alertmanager.yml"])
        file.chmod(0o644)
    tmp_path.chmod(0o755)
    command = ["docker", "run", "--rm", "--network=none", f"--volume={tmp_path}:/made:ro", "--entrypoint=/bin/amtool"]

    result = subprocess.run(
        [*command, image("alertmanager"), "check-config", "/made/0.yml", "/made/1.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("SUCCESS") == 2


def test_the_committed_rules_are_what_their_source_makes() -> None:
    for name in rules_source.FILES:
        made = rules_source.render(name)
        assert (ROOT / "prometheus/rules" / name).read_text() == made, "run `python prometheus/rules.py`"


def test_prometheus_yml_reads_the_files_that_are_rendered() -> None:
    deployment = Deployment.model_validate(
        {"name": "smoke", "models": [{"name": "smoke", "source": {"directory": "."}}]}
    )
    rendered = render_prometheus(Plan(deployment=deployment, replicas=place(deployment.models, core_ids=[0])))
    jobs = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["scrape_configs"]

    read = {
        Path(file).relative_to("/etc/vllmstack").as_posix()
        for job in jobs
        for discovery in job.get("file_sd_configs", [])
        for file in discovery["files"]
    }

    assert read == {name for name, text in rendered.items() if name.endswith(".json") and json.loads(text)}
