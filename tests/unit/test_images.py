"""docker/images.yaml, and which of its images a deployment needs."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vllmstack.deployment.model import Deployment
from vllmstack.images import Image, images_for, load_images, needed_at_start

ROOT = Path(__file__).parents[2]
ALWAYS = ("gateway", "prometheus", "alertmanager", "node-exporter", "exporters", "grafana")
KNOWN = load_images(ROOT / "docker" / "images.yaml")


def deployment(*engines: str, **changes: Any) -> Deployment:
    models = [
        {"name": f"model-{number}", "source": {"hub": "a/b"}, "engine": engine} for number, engine in enumerate(engines)
    ]
    return Deployment.model_validate({"name": "test", "models": models} | changes)


@pytest.mark.parametrize(
    ("engines", "names"),
    [
        (["vllm"], {*ALWAYS, "engine", "models"}),
        (["vllm-cpu", "vllm-cpu"], {*ALWAYS, "engine-cpu", "models"}),
        (["vllm", "vllm-cpu"], {*ALWAYS, "engine", "engine-cpu", "models"}),
    ],
)
def test_only_the_engines_that_are_used_are_needed(engines: list[str], names: set[str]) -> None:
    assert set(needed_at_start(images_for(deployment(*engines), KNOWN))) == names


def test_what_fetches_models_is_only_needed_for_those_of_the_hub() -> None:
    local = {"name": "test", "models": [{"name": "m", "source": {"directory": "/m"}, "engine": "vllm-cpu"}]}

    assert "models" not in images_for(Deployment.model_validate(local), KNOWN)


def test_without_grafana_its_image_is_not_needed() -> None:
    assert "grafana" not in images_for(deployment("vllm", monitoring={"grafana": False}), KNOWN)


def test_an_image_that_the_deployment_names_is_only_pulled() -> None:
    images = images_for(deployment("vllm", images={"prometheus": "own/prometheus:1"}), KNOWN)

    assert images["prometheus"] == Image(reference="own/prometheus:1", pulled=True, build=None)
    assert images["gateway"] == KNOWN.images["gateway"]


def test_the_load_test_is_known_and_not_waited_for() -> None:
    images = images_for(deployment("vllm"), KNOWN)

    assert images["loadtest"] == KNOWN.images["loadtest"]
    assert images.keys() - needed_at_start(images).keys() == {"loadtest"}


def test_a_load_test_that_the_deployment_names_is_not_waited_for_either() -> None:
    images = images_for(deployment("vllm", images={"loadtest": "own/loadtest:1"}), KNOWN)

    assert images["loadtest"] == Image(reference="own/loadtest:1", pulled=True, build=None, on_demand=True)
    assert "loadtest" not in needed_at_start(images)


def test_the_load_tests_image_is_called_after_the_locust_in_it() -> None:
    locked = (ROOT / "docker" / "loadtest" / "requirements.txt").read_text()
    locust = re.search(r"^locust==(\d+\.\d+)", locked, re.MULTILINE)

    assert locust
    assert KNOWN.images["loadtest"].reference == f"vllmstack/loadtest:{locust[1]}"


def test_the_load_tests_image_has_the_versions_that_are_tested_here() -> None:
    here, image = (
        set(re.findall(r"^([\w.-]+==\S+)", (ROOT / file).read_text(), re.MULTILINE))
        for file in ("requirements-dev.txt", "docker/loadtest/requirements.txt")
    )

    assert len(image) > 50
    assert image - here == set()


def test_what_fetches_models_has_the_versions_that_are_tested_here() -> None:
    here, image = (
        set(re.findall(r"^([\w.-]+==\S+)", (ROOT / file).read_text(), re.MULTILINE))
        for file in ("requirements-dev.txt", "docker/models/requirements.txt")
    )

    assert any(one.startswith("huggingface-hub==") for one in image)
    assert image - here == set()


def test_the_engines_carry_the_release_that_everything_is_pinned_to() -> None:
    assert KNOWN.images["engine"].reference == f"vllm/vllm-openai:v{KNOWN.vllm}"
    assert KNOWN.images["engine-cpu"].reference == f"vllmstack/engine-cpu:{KNOWN.vllm}"


def test_what_is_not_pulled_can_be_built() -> None:
    unpulled = {name: image for name, image in KNOWN.images.items() if not image.pulled}

    assert unpulled
    assert all(image.build for image in unpulled.values())


def test_every_build_names_a_folder_with_a_dockerfile() -> None:
    folders = [image.build.folder for image in KNOWN.images.values() if image.build]

    assert folders
    assert all((ROOT / "docker" / folder / "Dockerfile").is_file() for folder in folders)


def test_a_key_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text('vllm: "1"\nimages: {gateway: {reference: a, tag: b}}\n')

    with pytest.raises(ValidationError, match="tag"):
        load_images(file)
