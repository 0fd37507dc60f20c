"""`vllmstack models`: the real program over a real hub, with a container that is only Docker's word for it."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from tests.hub_server import HubServer, Repository, serving
from tests.unit.conftest import DOCKER_THAT_WORKS, ROOT, Clone, Outcome, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.host import image_supply
from vllmstack.hub import __main__ as program
from vllmstack.images import load_images
from vllmstack.planning.inventory import Inventory

pytestmark = pytest.mark.slow

Run = Callable[..., Outcome]
MODEL = "org/tiny"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights " * 5000,
    "modeling.py": b"code",
    "README.md": b"#",
}
DEPLOYMENT = """\
name: tiny
models:
  - name: tiny
    source: {hub: org/tiny}
    engine: vllm-cpu
"""


class Machine(FakeDocker):
    """`docker compose run` of the service `models` runs the program itself, and its container is there afterwards."""

    def __init__(self, root: Path, programs: Programs, hub: HubServer) -> None:
        super().__init__(root)
        self.programs = programs
        self.hub = hub
        self.home = root / "hub-cache"
        self.removed: list[str] = []
        self.token = ""
        self.api.remove_container = self._remove

    def _container(self, identity: str) -> FakeContainer:
        calls = [call for call in self.programs.calls("docker") if f"--name {identity}" in call]
        if not calls:
            return super()._container(identity)
        words = shlex.split(calls[-1])
        (mount,) = [word for word in words if word.startswith("--volume=")]
        request = mount.removeprefix("--volume=").partition(":")[0]
        environment = {"HF_HOME": str(self.home), "HF_ENDPOINT": self.hub.url}
        with (
            contextlib.redirect_stdout(io.StringIO()) as said,
            mock.patch.dict(os.environ, environment),
            mock.patch.object(program, "TOKEN_FILE", Path(self.token)),
        ):
            status = program.main([words[-2], request])
        log = tuple(said.getvalue().splitlines())
        return FakeContainer(service="models", id=identity, exit_code=status, log=log)

    def _remove(self, identity: str, *, force: bool) -> None:
        assert force
        self.removed.append(identity)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serving(HubServer(repositories={MODEL: Repository(files=dict(FILES))})) as server:
        yield server


@pytest.fixture
def machine(
    clone: Clone, programs: Programs, inventory: Inventory, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    made = Machine(clone.root.parent, programs, hub)
    clone.deployment(DEPLOYMENT, name="tiny")
    shutil.copytree(ROOT / "docker" / "models", clone.root / "docker" / "models")
    reference = load_images(clone.project.images_file).images["models"].reference
    monkeypatch.setattr(image_supply.ImageSupply, "_digest", lambda *_: "source")
    made.images_here = {reference: {image_supply.SOURCE_LABEL: "source"}}
    monkeypatch.setattr("docker.from_env", lambda **_: made)
    return made


def lock(clone: Clone) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((clone.project.deployments / "models.lock").read_text())
    return found


def test_pull_fetches_a_deployments_models_and_locks_them(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    done = vllmstack("models", "pull", "tiny")

    assert done.status == 0, done.err
    assert done.err.splitlines()[-1] == "• deployments/models.lock: org/tiny main is 111111111111 from now on"
    (entry,) = lock(clone)["models"]
    assert (entry["hub"], entry["revision"], entry["commit"]) == (MODEL, "main", "1" * 40)
    assert entry["files"].keys() == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (machine.home / "hub/models--org--tiny/snapshots" / ("1" * 40) / "model.safetensors").is_file()
    assert len(machine.removed) == 1
    assert list((clone.project.state / ".models").iterdir()) == []


def test_compose_is_run_on_a_file_of_its_own_in_the_stacks_project(
    vllmstack: Run, machine: Machine, programs: Programs, clone: Clone
) -> None:
    vllmstack("models", "list")

    (call,) = [call for call in programs.calls("docker") if " run " in call]
    folder = clone.root / "docker" / "models"
    assert call.startswith(
        f"compose --project-name vllmstack --project-directory {folder} --file {folder}/compose.yaml run --detach "
    )
    assert re.search(r"--name vllmstack-models-\w{8} --volume=\S+:/etc/vllmstack/request.json:ro models list", call)


def test_a_second_pull_asks_the_hub_nothing_and_changes_nothing(
    vllmstack: Run, machine: Machine, clone: Clone, hub: HubServer
) -> None:
    vllmstack("models", "pull", "tiny")
    before = (clone.project.deployments / "models.lock").read_bytes()
    hub.requests.clear()

    done = vllmstack("models", "pull", "tiny")

    assert (done.status, hub.requests) == (0, [])
    assert (clone.project.deployments / "models.lock").read_bytes() == before


def test_a_locked_commit_stays_until_update_moves_it_on(
    vllmstack: Run, machine: Machine, clone: Clone, hub: HubServer
) -> None:
    vllmstack("models", "pull", "tiny")
    hub.repositories[MODEL] = Repository(files={**FILES, "config.json": b'{"a": 1}'}, commit="2" * 40)

    vllmstack("models", "pull", "tiny")
    stays = lock(clone)["models"][0]["commit"]
    moved = vllmstack("models", "pull", "tiny", "--update")

    assert (stays[0], lock(clone)["models"][0]["commit"][0]) == ("1", "2")
    assert moved.err.splitlines()[-1] == "• deployments/models.lock: org/tiny moves from 111111111111 to 222222222222"


def test_a_hub_id_is_pulled_without_a_deployment(
    vllmstack: Run, machine: Machine, clone: Clone, hub: HubServer
) -> None:
    hub.repositories["org/other"] = Repository(files=dict(FILES), revisions={"v1": "3" * 40})

    done = vllmstack("models", "pull", "org/other@v1")

    assert done.status == 0, done.err
    assert [(one["hub"], one["revision"], one["commit"][0]) for one in lock(clone)["models"]] == [
        ("org/other", "v1", "3")
    ]


def test_what_comes_is_locked_though_another_does_not(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    done = vllmstack("models", "pull", "org/none", MODEL)

    assert done.status == 1
    assert done.err.splitlines()[-2:] == [
        "vllmstack: org/none: the hub has no such model, or it is private and there is no token",
        "  hint: check the id, ORGANISATION/NAME, on the hub",
    ]
    assert [one["hub"] for one in lock(clone)["models"]] == [MODEL]


def test_pickles_once_allowed_are_allowed_by_the_lock(
    vllmstack: Run, machine: Machine, clone: Clone, hub: HubServer
) -> None:
    hub.repositories[MODEL].files = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}

    refused = vllmstack("models", "pull", "tiny")
    allowed = vllmstack("models", "pull", "tiny", "--allow-pickle")
    shutil.rmtree(machine.home)
    again = vllmstack("models", "pull", "tiny")

    assert (refused.status, allowed.status, again.status) == (1, 0, 0)
    assert "only as pickles (pytorch_model.bin)" in refused.err
    assert lock(clone)["models"][0]["pickles"] is True


TWO_USES = """\
name: two
models:
  - name: first
    source: {hub: org/other}
    serve: {tokenizer: org/tiny}
    engine: vllm-cpu
"""


def test_what_one_deployment_locked_stays_when_another_uses_the_same_repository(
    vllmstack: Run, machine: Machine, clone: Clone, hub: HubServer
) -> None:
    hub.repositories["org/other"] = Repository(files={**FILES, "model.safetensors": b"other" * 5000}, commit="2" * 40)
    clone.deployment(TWO_USES, name="two")
    vllmstack("models", "pull", "tiny")
    before = lock(clone)["models"]
    shutil.rmtree(machine.home)
    hub.requests.clear()

    done = vllmstack("models", "pull", "two", "--allow-pickle")

    assert done.status == 0, done.err
    assert [one for one in lock(clone)["models"] if one["hub"] == MODEL] == before
    assert not any(one.get("pickles") for one in lock(clone)["models"])
    # As a tokenizer it needs no weights, though they are locked.
    assert hub.downloads("/cdn/org/tiny/") == []
    assert vllmstack("models", "verify").status == 0
    assert vllmstack("models", "pull", "tiny").status == 0
    assert lock(clone)["models"][1] == before[0]


def test_the_token_comes_from_its_file_and_is_nowhere_else(
    vllmstack: Run, machine: Machine, clone: Clone, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.hub.repositories[MODEL].gated = True
    without = vllmstack("models", "pull", "tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    machine.token = str(clone.project.secrets / "hub_token")
    with_token = vllmstack("models", "pull", "tiny")

    assert without.status == 1
    assert "is gated, and there is no token" in without.err
    assert with_token.status == 0, with_token.err
    assert (clone.project.secrets / "hub_token").read_text() == "hf_good"
    assert "hf_good" not in "".join(programs.calls("docker")) + with_token.err + with_token.out


def test_list_says_what_is_locked_and_who_uses_it(vllmstack: Run, machine: Machine, hub: HubServer) -> None:
    hub.repositories["org/other"] = Repository(files=dict(FILES))
    nothing = vllmstack("models", "list")
    vllmstack("models", "pull", "tiny", "org/other")

    done = vllmstack("models", "list")

    assert nothing.out == "no models yet: `vllmstack models pull` fetches a deployment's\n"
    assert [line.split() for line in done.out.splitlines()] == [
        ["model", "revision", "size", "locked", "used", "by"],
        ["org/other", "111111111111", "(main)", "0.00", "GB", "yes", "–"],
        ["org/tiny", "111111111111", "(main)", "0.00", "GB", "yes", "tiny"],
    ]
    assert max(map(len, done.out.splitlines())) <= 80


def test_list_as_json(vllmstack: Run, machine: Machine) -> None:
    vllmstack("models", "pull", "tiny")

    (row,) = json.loads(vllmstack("models", "list", "--json").out)

    assert (row["hub"], row["commit"], row["locked"], row["deployments"]) == (MODEL, "1" * 40, True, ["tiny"])
    assert row["size"] == sum(len(FILES[name]) for name in ("config.json", "tokenizer.json", "model.safetensors"))


def test_half_a_download_is_listed_as_that(vllmstack: Run, machine: Machine) -> None:
    part = machine.home / "hub/models--org--half/blobs/abc.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"1234")

    assert vllmstack("models", "list").out.splitlines()[1].split()[:3] == ["org/half", "not", "whole"]


@pytest.mark.parametrize("names", [(), ("tiny",), (MODEL,)])
def test_verify_finds_a_changed_file(vllmstack: Run, machine: Machine, names: tuple[str, ...]) -> None:
    vllmstack("models", "pull", "tiny")
    good = vllmstack("models", "verify", *names)
    shard = machine.home / "hub/models--org--tiny/snapshots" / ("1" * 40) / "model.safetensors"
    shard.resolve().write_bytes(b"WEIGHTS " * 5000)

    bad = vllmstack("models", "verify", *names)

    assert good.status == 0, good.err
    assert "org/tiny: 3 files are as they should be" in good.err
    assert bad.status == 1
    assert "vllmstack: org/tiny: model.safetensors: has the digest " in bad.err
    assert vllmstack("models", "pull", "tiny").status == 0
    assert shard.read_bytes() == FILES["model.safetensors"]


def test_rm_asks_and_removes(vllmstack: Run, machine: Machine, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    vllmstack("models", "pull", "tiny")
    kept = lock(clone)

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = vllmstack("models", "rm", "tiny")
    removed = vllmstack("models", "rm", MODEL, "--yes")

    assert refused.status == 130
    assert removed.status == 0, removed.err
    assert json.loads(vllmstack("models", "list", "--json").out) == []
    assert lock(clone) == kept


def test_rm_of_one_of_two_commits(vllmstack: Run, machine: Machine, hub: HubServer) -> None:
    vllmstack("models", "pull", "tiny")
    hub.repositories[MODEL] = Repository(files={**FILES, "config.json": b'{"a": 1}'}, commit="2" * 40)
    vllmstack("models", "pull", "tiny", "--update")

    vllmstack("models", "rm", f"{MODEL}@1111", "--yes")

    assert [row["commit"][0] for row in json.loads(vllmstack("models", "list", "--json").out)] == ["2"]


def test_rm_of_what_is_not_there(vllmstack: Run, machine: Machine) -> None:
    vllmstack("models", "pull", "tiny")

    done = vllmstack("models", "rm", "org/tyni")

    assert done.status == 1
    assert done.err.splitlines()[-2:] == [
        'vllmstack: the volume has nothing of "org/tyni"',
        "  hint: Perhaps you meant `org/tiny`?",
    ]


def test_an_image_that_the_running_deployment_names_is_taken_and_a_broken_one_does_not_matter(
    vllmstack: Run, machine: Machine, clone: Clone
) -> None:
    clone.deployment(f"{DEPLOYMENT}images: {{models: own/models:1}}\n", name="tiny")
    vllmstack("render", "tiny")
    clone.project.current.symlink_to("tiny")
    missing = vllmstack("models", "list")
    clone.deployment("name: [", name="tiny")

    broken = vllmstack("models", "list")

    assert missing.status == 1
    assert "own/models:1 cannot be pulled" in missing.err
    assert broken.status == 0, broken.err


def test_rm_refuses_while_an_engine_uses_it(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    vllmstack("models", "pull", "tiny")
    vllmstack("render", "tiny")
    clone.project.current.symlink_to("tiny")
    machine.stack = [FakeContainer(service="engine-tiny-1", model="tiny", replica=1)]

    done = vllmstack("models", "rm", MODEL, "--yes")

    assert done.status == 1
    assert done.err.splitlines()[-2:] == [
        "vllmstack: org/tiny: tiny, which runs, uses it",
        "  hint: `vllmstack down` first",
    ]


def test_a_deployment_without_models_of_the_hub_has_nothing_to_pull(
    vllmstack: Run, machine: Machine, programs: Programs
) -> None:
    done = vllmstack("models", "pull", "smoke")

    assert done.status == 0
    assert "its models are directories of this machine: nothing to fetch" in done.err
    assert not any(" run " in call for call in programs.calls("docker"))


def test_a_name_that_is_nothing(vllmstack: Run, machine: Machine) -> None:
    done = vllmstack("models", "pull", "tyni")

    assert done.status == 1
    assert "there is no deployment named 'tyni'" in done.err


def test_a_container_that_cannot_be_started_is_one_clear_message(
    vllmstack: Run, machine: Machine, programs: Programs
) -> None:
    programs.install("docker", f'case "$*" in *" run "*) echo "no space" >&2; exit 1 ;; esac\n{DOCKER_THAT_WORKS}')

    done = vllmstack("models", "list")

    assert done.status == 1
    assert "starting the container that has the volume of models failed (exit 1):\n    no space" in done.err
