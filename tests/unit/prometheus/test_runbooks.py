"""Runbooks name what there is: metrics, dashboards' panels, commands with their options, options of a deployment."""

import json
import re
import typing
from pathlib import Path

import click
import pytest
import yaml

from tests.unit.prometheus.test_metrics_exist import KNOWN, RULES, TARGET_LABELS, named
from vllmstack.cli import COMMANDS, group
from vllmstack.deployment import model
from vllmstack.deployment.options import option_list

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "runbooks"
RUNBOOKS = sorted(file for file in FOLDER.glob("*.md") if file.stem != "README")
PAGES = [*RUNBOOKS, FOLDER / "README.md"]
SECTIONS = ["What users feel", "Confirm", "What to do", "Prevent"]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
SELF = {"__name__"}
"""A label that every series has."""

parametrized = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def blocks(page: Path, language: str) -> list[str]:
    """Lines of the page's fenced blocks; a line that ends with a backslash with the next one."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line.strip() for text in found for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def prose(page: Path) -> str:
    """All but the fenced blocks, on one line."""
    return " ".join(re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL).split())


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(page))


def commands(page: Path) -> list[list[str]]:
    """Words of every `vllmstack …` and its comment-free line, in blocks and in prose."""
    lines = [line.removeprefix("$ ").partition(" #")[0].partition(" | ")[0] for line in blocks(page, "console")]
    return [line.split()[1:] for line in [*lines, *spans(page)] if line.startswith("vllmstack ")]


def panels() -> set[str]:
    """`Dashboard: Panel`, as runbooks write it."""
    boards = [json.loads(file.read_text()) for file in (ROOT / "grafana/dashboards").glob("*.json")]
    return {
        f"{board['title'].removeprefix('vllmstack / ')}: {panel['title']}"
        for board in boards
        for panel in board["panels"]
    }


PANELS = panels()


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_it_has_its_sections_and_severities(page: Path) -> None:
    text = page.read_text()
    severities = {rule["labels"]["severity"] for rule in RULES if rule.get("alert") == page.stem}

    assert text.startswith(f"# {page.stem}\n\n**")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert set(re.findall(r"\*\*(page|warn|none)\*\*", text)) == severities


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_it_says_how_to_confirm(page: Path) -> None:
    assert blocks(page, "promql")
    assert blocks(page, "console")
    assert re.search(r"Panels?: \*|panels?", prose(page))


def test_the_index_has_each_alert_once() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| ([a-z, ]+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    severities = {
        name: sorted({rule["labels"]["severity"] for rule in RULES if rule.get("alert") == name}) for name in ALERTS
    }

    assert {name: severity.split(", ") for name, _, severity in rows} == severities
    assert len(rows) == len(ALERTS)
    assert all(name == link for name, link, _ in rows)


@pytest.mark.parametrize(
    "expression", [pytest.param(line, id=f"{page.stem}: {line}") for page in PAGES for line in blocks(page, "promql")]
)
def test_every_query_names_metrics_and_labels_that_are_served(expression: str) -> None:
    metrics, labels = named(expression)

    assert sorted(metrics - KNOWN.keys()) == []
    assert sorted(labels - TARGET_LABELS - SELF - set().union(*(KNOWN[metric] for metric in metrics))) == []


@parametrized
def test_metrics_in_its_prose_are_served(page: Path) -> None:
    written = [span for span in spans(page) if re.match(r"(vllm:|vllmstack_|(replica|model|stack):)", span)]

    assert sorted({metric for span in written for metric in named(span)[0]} - KNOWN.keys()) == []


@parametrized
def test_panels_that_it_names_exist(page: Path) -> None:
    boards = "|".join(sorted({panel.partition(":")[0] for panel in PANELS}))
    written = re.findall(rf"\*((?:{boards}): [^*]+)\*", prose(page))

    assert [panel for panel in written if panel not in PANELS] == []


@parametrized
def test_commands_that_it_names_exist_with_their_options(page: Path) -> None:
    context = click.Context(group)
    for name, *words in commands(page):
        assert name in COMMANDS
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            command = command.get_command(context, words[0])
        assert command
        known = {option for parameter in command.params for option in parameter.opts}
        assert [word for word in words if word.startswith("-") and word not in known] == []


@parametrized
def test_options_that_it_names_are_a_deployments(page: Path) -> None:
    dotted = [span.partition(":")[0] for span in spans(page) if re.match(r"[a-z]+\.[a-z_.]+(: |$)", span)]
    written = [span for span in dotted if not (ROOT / span).exists()]

    assert [option for option in written if not is_an_option(option)] == []


def is_an_option(dotted: str) -> bool:
    """Whether `SECTION.KEY` is one, of the deployment or of a model."""
    section, *keys = dotted.split(".")
    if section == "serve":
        return keys[0] in option_list().options
    part = next((kind for kind in (model.Deployment, model.Model) if section in kind.model_fields), None)
    found: object = part.model_fields[section].annotation if part else None
    for key in keys:
        # `Tls | None`
        section_type = next(
            (one for one in (found, *typing.get_args(found)) if isinstance(one, type) and issubclass(one, model.Part)),
            None,
        )
        if section_type is None or key not in section_type.model_fields:
            return False
        found = section_type.model_fields[key].annotation
    return found is not None


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("admission.hold_seconds", True),
        ("gateway.tls.certificate", True),
        ("monitoring.receivers", True),
        ("serve.max_num_seqs", True),
        ("admission.hold_second", False),
        ("serve.max_modle_len", False),
        ("nothing.at_all", False),
    ],
)
def test_options_are_told_from_mistakes(option: str, known: bool) -> None:
    assert is_an_option(option) is known


@parametrized
def test_services_that_it_names_exist(page: Path) -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].keys() | {"REPLICA", "SERVICE"}
    lines = [*blocks(page, "console"), *spans(page)]
    written = [
        found for line in lines for found in re.findall(r"docker compose (?:exec(?: -T)?|restart|stop) ([\w-]+)", line)
    ]

    assert [service for service in written if service not in services] == []


@parametrized
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if not link.startswith("http")]

    for link in links:
        file, _, heading = link.partition("#")
        target = (FOLDER / file) if file else page
        assert target.is_file(), link
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings(target)]
        assert not heading or heading in anchors, link


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
