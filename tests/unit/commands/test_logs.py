"""`vllmstack logs`: Compose's own, for names that a person knows."""

from collections.abc import Callable

import pytest

from tests.unit.conftest import Clone, Outcome, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def stack(clone: Clone, daemon: FakeDocker, programs: Programs) -> None:
    clone.is_up()
    daemon.stack = [
        FakeContainer(service="engine-org-llama-1", model="org/llama", replica=1),
        FakeContainer(service="engine-org-llama-2", model="org/llama", replica=2),
        FakeContainer(service="gateway"),
    ]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], "logs --tail 200"),
        (["gateway"], "logs --tail 200 gateway"),
        (["org/llama"], "logs --tail 200 engine-org-llama-1 engine-org-llama-2"),
        (["engine-org-llama-2", "gateway"], "logs --tail 200 engine-org-llama-2 gateway"),
        (["-f", "-n", "all"], "logs --tail all --follow"),
        (["--since", "10m", "gateway"], "logs --tail 200 --since 10m gateway"),
    ],
)
def test_models_and_services_are_names_of_the_same_kind(
    vllmstack: Run, programs: Programs, arguments: list[str], asked: str
) -> None:
    assert vllmstack("logs", *arguments).status == 0
    assert programs.calls("docker")[-1].partition("compose.env ")[2] == asked


def test_an_unknown_name_lists_those_that_run(vllmstack: Run, programs: Programs) -> None:
    done = vllmstack("logs", "gateway", "grafana", "qwen")

    assert done.status == 1
    assert done.err == (
        "vllmstack: nothing that runs is called grafana, qwen\n"
        "  hint: known: engine-org-llama-1, engine-org-llama-2, gateway, org/llama\n"
    )
    assert not any("logs" in call for call in programs.calls("docker"))


def test_composes_own_status_is_passed_on(vllmstack: Run, programs: Programs) -> None:
    programs.install("docker", "exit 5\n")

    assert vllmstack("logs").status == 5
