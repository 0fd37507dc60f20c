"""`vllmstack validate`: right or wrong, whatever machine it will run on."""

import json
from collections.abc import Callable

import pytest

from tests.unit.conftest import SMOKE, Clone, Outcome

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def files(clone: Clone) -> None:
    clone.deployment(SMOKE.replace("replicas: 2", "replicas: 0"), name="none")
    clone.deployment(SMOKE.replace("description", "descripton"), name="typing-error")
    clone.deployment(
        SMOKE.replace("name: smoke\ndesc", "name: two\ndesc").replace("replicas: 2", "cpus: 1")
        + "  - name: other\n    source: {directory: ../models/smoke}\n    engine: vllm-cpu\n    cpus: 1\n",
        name="two",
    )


def test_a_valid_file_is_one_line_on_standard_output(vllmstack: Run) -> None:
    done = vllmstack("validate", "smoke")

    assert (done.status, done.out, done.err) == (0, "deployments/smoke.yaml: valid (1 model)\n", "")


def test_names_and_paths_may_be_mixed(vllmstack: Run) -> None:
    done = vllmstack("validate", "smoke", "deployments/two.yaml")

    assert done.out == "deployments/smoke.yaml: valid (1 model)\ndeployments/two.yaml: valid (2 models)\n"


def test_the_problems_of_all_files_are_told_and_the_valid_ones_too(vllmstack: Run) -> None:
    done = vllmstack("validate", "none", "smoke", "typing-error", "nowhere")

    assert done.status == 1
    assert done.out == "deployments/smoke.yaml: valid (1 model)\n"
    assert "deployments/none.yaml: models/0/replicas: " in done.err
    assert "deployments/typing-error.yaml: descripton: " in done.err
    assert "there is no deployment named 'nowhere'" in done.err
    assert done.err.count("\n  hint: ") == 3


def test_a_long_path_stays_on_one_line(vllmstack: Run, clone: Clone) -> None:
    folder = clone.root / ("very-long-name-" * 10)
    folder.mkdir()
    (folder / "[bold].yaml").write_text(SMOKE)

    done = vllmstack("validate", f"{folder.name}/[bold].yaml")

    assert done.out == f"{folder.name}/[bold].yaml: valid (1 model)\n"


def test_json_lists_the_problems_for_editors_and_scripts(vllmstack: Run) -> None:
    done = vllmstack("validate", "--json", "none", "smoke")

    (problem,) = json.loads(done.out)
    assert done.status == 1
    assert (problem["file"], problem["place"]) == ("deployments/none.yaml", "models/0/replicas")
    assert problem["fact"]
    assert problem["hint"]


def test_json_of_a_valid_file_is_an_empty_list(vllmstack: Run) -> None:
    done = vllmstack("validate", "--json", "smoke")

    assert (done.status, json.loads(done.out)) == (0, [])
