"""Finding the clone that a command was started in."""

from pathlib import Path

import pytest

from tests.unit.conftest import Clone
from vllmstack.errors import HostError
from vllmstack.project import Project, compose_project_name, find_project


@pytest.mark.parametrize("below", [".", "deployments", "docker/gateway/lua"])
def test_a_command_works_in_any_folder_of_the_clone(clone: Clone, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    folder = clone.root / below
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)

    assert find_project() == clone.project


def test_another_projects_compose_file_is_no_clone(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")

    with pytest.raises(HostError) as caught:
        find_project(tmp_path)

    assert str(caught.value) == (
        f"{tmp_path} is not inside a clone of vllmstack (no compose.yaml with docker/images.yaml beside it)\n"
        "  hint: change into the clone's folder first"
    )


def test_each_file_has_its_place_below_the_root() -> None:
    project = Project(root=Path("/clone"))

    assert project.compose_file == Path("/clone/compose.yaml")
    assert project.images_file == Path("/clone/docker/images.yaml")
    assert project.rendered("two-models") == Path("/clone/.vllmstack/two-models")
    assert project.current == Path("/clone/.vllmstack/.current")
    assert project.secrets == Path("/clone/secrets")


@pytest.mark.parametrize(("variable", "name"), [(None, "vllmstack"), ("", "vllmstack"), ("second", "second")])
def test_composes_own_variable_names_the_project(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, name: str
) -> None:
    if variable is not None:
        monkeypatch.setenv("COMPOSE_PROJECT_NAME", variable)

    assert compose_project_name() == name
