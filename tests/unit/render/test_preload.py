"""The service that brings a model's files, and the file that it reads."""

import json
from pathlib import Path
from typing import Any

import yaml

from vllmstack.deployment.model import Deployment
from vllmstack.deployment.model_lock import Locked, LockedFile, ModelLock
from vllmstack.hub.wishes import wish_from
from vllmstack.images import images_for, load_images
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.engine_config import config_path
from vllmstack.render.stack import render_stack

ROOT = Path(__file__).parents[3]
KNOWN = load_images(ROOT / "docker" / "images.yaml")
COMMIT = "a" * 40


def rendered(lock: ModelLock | None = None, **changes: Any) -> dict[str, str]:
    of = Deployment.model_validate(
        {"name": "test", "models": [{"name": "llama", "source": {"hub": "org/llama"}, "replicas": 2} | changes]}
    )
    plan = Plan(deployment=of, replicas=place(of.models, core_ids=(0, 1)))
    return render_stack(plan, images_for(of, KNOWN), "receivers: []", lock)


def lock(*hubs: str, commit: str = COMMIT) -> ModelLock:
    files = {"model.safetensors": LockedFile(bytes=2, blob="b" * 40)}
    entries = (Locked(hub=hub, revision="main", commit=commit, files=files) for hub in hubs)
    return ModelLock(models=tuple(entries))


def services(files: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files["engines.compose.yaml"])["services"]
    return found


def options(files: dict[str, str]) -> dict[str, Any]:
    (text,) = [text for path, text in files.items() if path.startswith("engines/")]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_one_service_a_model_however_many_replicas_and_each_waits_for_it() -> None:
    found = services(rendered())

    assert list(found) == ["preload-llama", "engine-llama-1", "engine-llama-2"]
    waits = [found[f"engine-llama-{number}"]["depends_on"]["preload-llama"] for number in (1, 2)]
    assert waits == [{"condition": "service_completed_successfully"}] * 2


def test_what_it_reads_is_what_is_asked_for_as_it_is_locked() -> None:
    files = rendered(lock("org/llama"))

    (wish,) = map(wish_from, json.loads(files["preload/llama.json"])["wishes"])
    assert (wish.hub, wish.revision, wish.commit) == ("org/llama", "main", COMMIT)
    assert [file.path for file in wish.files] == ["model.safetensors"]


def test_the_engine_and_the_load_test_get_the_locked_commit() -> None:
    files = rendered(lock("org/llama"))

    assert options(files)["revision"] == COMMIT
    assert json.loads(files["loadtest/stack.json"])["models"][0]["tokenizer"] == {
        "hub": "org/llama",
        "revision": COMMIT,
    }
    assert "revision" not in options(rendered())


def test_a_lock_that_moves_makes_new_engines() -> None:
    def digests(**changes: Any) -> list[str]:
        return [
            one["labels"]["vllmstack.config"]
            for name, one in services(rendered(**changes)).items()
            if name.startswith("engine-")
        ]

    adapter = {"enable_lora": True, "lora_modules": [{"name": "sql", "path": "org/sql"}]}
    before, moved = lock("org/sql"), lock("org/sql", commit="f" * 40)

    assert digests(lock=lock("org/llama")) != digests(lock=lock("org/llama", commit="f" * 40))
    assert digests(lock=before, serve=adapter) != digests(lock=moved, serve=adapter)


def test_a_locked_adapter_is_read_from_its_commits_folder_in_the_volume() -> None:
    # Of an adapter vLLM takes no revision, and a branch may have moved when Docker starts an engine again.
    serve = {"enable_lora": True, "lora_modules": [{"name": "sql", "path": "org/sql"}]}

    files = rendered(lock("org/sql"), serve=serve)

    (adapter,) = map(json.loads, options(files)["lora-modules"])
    shared = yaml.safe_load((ROOT / "docker" / "engine" / "service.yaml").read_text())["services"]["engine"]
    assert adapter["path"] == f"{shared['environment']['HF_HOME']}/hub/models--org--sql/snapshots/{COMMIT}"
    assert not any("adapters" in str(mount) for mount in services(files)["engine-llama-1"]["volumes"])
    assert [wish["hub"] for wish in json.loads(files["preload/llama.json"])["wishes"]] == ["org/llama", "org/sql"]


def test_a_model_from_a_directory_has_none() -> None:
    files = rendered(source={"directory": "/models/llama"})

    assert list(services(files)) == ["engine-llama-1", "engine-llama-2"]
    assert not any(path.startswith("preload/") for path in files)


def test_it_is_where_the_engines_configuration_points_to() -> None:
    of = Deployment.model_validate({"name": "test", "models": [{"name": "llama", "source": {"hub": "org/llama"}}]})

    assert config_path(of.models[0], of) in rendered(replicas=1)
