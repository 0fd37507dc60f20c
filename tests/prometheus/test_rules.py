"""prometheus/ as promtool reads it: the configuration, the rules, and what the rules make of given series."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
import yaml

from vllmstack.deployment.model import Deployment
from vllmstack.host.image_supply import ImageSupply
from vllmstack.images import load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.project import find_project
from vllmstack.render.prometheus import render_prometheus

ROOT = Path(__file__).parents[2]
CASES = sorted(Path(__file__).parent.glob("*_test.yml"))
RULES = sorted((ROOT / "prometheus/rules").glob("*.yml"))

Promtool = Callable[..., subprocess.CompletedProcess[str]]


def image_with_promtool() -> str:
    """The stack's own Prometheus, brought onto this machine as `vllmstack up` does it."""
    project = find_project(ROOT)
    known = load_images(project.images_file).images["prometheus"]
    return ImageSupply(project, docker.from_env()).provide({"prometheus": known})["prometheus"]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Runs the image's promtool; paths are relative to the clone, of which it sees rules and cases, read-only."""
    mounts = [f"--volume={ROOT / name}:/clone/{name}:ro" for name in ("prometheus", "tests/prometheus")]
    container = ["docker", "run", "--rm", "--network=none", "--workdir=/clone", "--entrypoint=/bin/promtool", *mounts]
    command = [*container, image_with_promtool()]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    return run


def recorded() -> set[str]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"]}


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


def test_every_rule_has_a_case() -> None:
    tests = [test for file in CASES for test in yaml.safe_load(file.read_text())["tests"]]

    assert {case["expr"] for test in tests for case in test["promql_expr_test"]} == recorded()


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
