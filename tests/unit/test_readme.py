"""The README's tables against what is there."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("file", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_deployment_is_listed_with_its_own_description(file: Path) -> None:
    deployment = yaml.safe_load(file.read_text())

    assert f"| `{deployment['name']}` | {deployment['description']} |" in README


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README))

    assert named
    assert named <= targets


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("http")]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_quoted_deployment_is_the_file() -> None:
    quoted = README.split("```yaml\n")[1].split("```")[0].splitlines()
    file = (ROOT / "deployments" / "two-replicas.yaml").read_text().splitlines()

    assert [line for line in quoted if not line.startswith("#") and line not in file] == []
