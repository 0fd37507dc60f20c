"""`vllmstack keys`: a key is shown once, counts at once where its deployment runs, and is never shown again."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import SMOKE, Clone, Outcome
from vllmstack import console

Run = Callable[..., Outcome]

KEYED = f"""{SMOKE}    aliases: [tiny]
splits:
  - {{name: mix, weights: {{smoke: 1}}}}
gateway: {{api_keys_file: keys.json}}
"""


@pytest.fixture(autouse=True)
def keyed(clone: Clone) -> Clone:
    clone.deployment(KEYED)
    return clone


def running(clone: Clone, *, with_keys: bool = True) -> Path:
    """The deployment was started; what its gateway reads."""
    clone.is_up()
    clone.project.secrets.mkdir(mode=0o700)
    (clone.project.secrets / "api_keys").write_text('{"keys": []}\n')
    if with_keys:
        with (clone.project.rendered("smoke") / "compose.env").open("a") as values:
            values.write("VLLMSTACK_API_KEYS_FILE=secrets/api_keys\n")
    return clone.project.secrets / "api_keys"


def entries(file: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(file.read_text())["keys"]}


def test_the_key_alone_is_on_standard_output_and_only_its_hash_is_kept(vllmstack: Run, clone: Clone) -> None:
    done = vllmstack("keys", "add", "alice", "--deployment", "smoke")

    assert done.status == 0, done.err
    assert re.fullmatch(r"sk-[A-Za-z0-9]{43}\n", done.out)
    file = clone.project.deployments / "keys.json"
    assert entries(file)["alice"]["sha256"] == hashlib.sha256(done.out.strip().encode()).hexdigest()
    assert done.out.strip() not in file.read_text() + done.err
    assert file.stat().st_mode & 0o777 == 0o600
    assert done.err == (
        "• deployments/keys.json: the key of alice; it is shown this once\n"
        "• smoke does not run now, or was started without keys: the next `vllmstack up` brings them\n"
    )


def test_every_setting_is_kept(vllmstack: Run, clone: Clone) -> None:
    options = ("--models", "tiny, mix", "--requests-per-minute", "60", "--tokens-per-minute", "90000")
    done = vllmstack("keys", "add", "bob", *options, "--concurrency", "4", "--priority", "batch", "--debug",
                     "--deployment", "deployments/smoke.yaml")  # fmt: skip

    assert done.status == 0, done.err
    entry = entries(clone.project.deployments / "keys.json")["bob"]
    del entry["sha256"], entry["created"]
    assert entry == {
        "name": "bob", "models": ["tiny", "mix"], "requests_per_minute": 60, "tokens_per_minute": 90000,
        "concurrency": 4, "priority": "batch", "debug": True,
    }  # fmt: skip


def test_a_running_gateway_gets_the_key_in_the_file_that_it_has_mounted(vllmstack: Run, clone: Clone) -> None:
    mounted = running(clone)
    before = mounted.stat().st_ino

    done = vllmstack("keys", "add", "alice")

    assert done.status == 0, done.err
    assert list(entries(mounted)) == ["alice", "vllmstack"]
    assert mounted.stat().st_ino == before
    assert mounted.stat().st_mode & 0o777 == 0o444
    assert done.err.endswith("• it is let in within 2 s\n")


def test_a_revoked_key_leaves_both_files(vllmstack: Run, clone: Clone) -> None:
    mounted = running(clone)
    vllmstack("keys", "add", "alice")
    vllmstack("keys", "add", "bob")

    done = vllmstack("keys", "revoke", "alice")

    assert (done.status, done.out) == (0, "")
    assert list(entries(mounted)) == ["bob", "vllmstack"]
    assert list(entries(clone.project.deployments / "keys.json")) == ["bob"]
    assert done.err == (
        "• deployments/keys.json: the key of alice is revoked\n• it is refused within 2 s\n"
    )  # fmt: skip


def test_the_stacks_own_key_stays_when_keys_change(vllmstack: Run, clone: Clone) -> None:
    mounted = running(clone)
    vllmstack("keys", "add", "alice")
    own = (clone.project.secrets / "stack_key").read_text()

    vllmstack("keys", "revoke", "alice")

    assert (clone.project.secrets / "stack_key").read_text() == own
    assert entries(mounted)["vllmstack"]["sha256"] == hashlib.sha256(own.encode()).hexdigest()


def test_another_deployments_gateway_is_left_alone(vllmstack: Run, clone: Clone) -> None:
    mounted = running(clone)
    clone.deployment(KEYED.replace("name: smoke\ndes", "name: other\ndes").replace("keys.json", "o.json"), name="other")

    done = vllmstack("keys", "add", "alice", "--deployment", "other")

    assert done.status == 0, done.err
    assert entries(mounted) == {}
    assert list(entries(clone.project.deployments / "o.json")) == ["alice"]


def test_a_gateway_that_was_started_without_keys_gets_none(vllmstack: Run, clone: Clone) -> None:
    mounted = running(clone, with_keys=False)

    done = vllmstack("keys", "add", "alice")

    assert entries(mounted) == {}
    assert "the next `vllmstack up` brings them" in done.err


def test_a_key_is_revoked_even_where_the_deployment_is_wrong_elsewhere(vllmstack: Run, clone: Clone) -> None:
    mounted = running(clone)
    vllmstack("keys", "add", "alice")
    clone.deployment(KEYED.replace("max_model_len", "max_modle_len"))

    assert vllmstack("keys", "revoke", "alice").status == 0
    assert list(entries(mounted)) == ["vllmstack"]


def test_a_taken_name_is_refused_and_no_key_is_shown(vllmstack: Run, clone: Clone) -> None:
    vllmstack("keys", "add", "alice", "--deployment", "smoke")

    done = vllmstack("keys", "add", "alice", "--deployment", "smoke")

    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'vllmstack: deployments/keys.json: there is a key of "alice" already\n'
        "  hint: choose another name, or `vllmstack keys revoke alice` first\n"
    )


@pytest.mark.parametrize("name", ["vllmstack", "al ice"])
def test_a_name_that_cannot_be_is_refused(vllmstack: Run, clone: Clone, name: str) -> None:
    done = vllmstack("keys", "add", name, "--deployment", "smoke")

    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("vllmstack: name: ")
    assert not (clone.project.deployments / "keys.json").exists()


def test_models_that_are_not_served_are_all_named(vllmstack: Run) -> None:
    done = vllmstack("keys", "add", "alice", "--models", "smoek,tiny,gpt-5", "--deployment", "smoke")

    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'vllmstack: --models: there is no model "smoek"\n  hint: Perhaps you meant `smoke`?\n'
        '--models: there is no model "gpt-5"\n  hint: smoke serves smoke, tiny and mix\n'
    )


def test_an_empty_list_of_models_is_refused(vllmstack: Run) -> None:
    done = vllmstack("keys", "add", "alice", "--models", " , ", "--deployment", "smoke")

    assert done.err == "vllmstack: --models: names no model\n  hint: leave it out for all of them\n"


def test_an_unknown_name_cannot_be_revoked(vllmstack: Run) -> None:
    done = vllmstack("keys", "revoke", "alice", "--deployment", "smoke")

    assert done.status == 1
    assert done.err == 'vllmstack: deployments/keys.json: there is no key of "alice"\n  hint: nobody has one\n'


def test_a_file_with_mistakes_is_told_with_all_of_them_and_stays(vllmstack: Run, clone: Clone) -> None:
    file = clone.project.deployments / "keys.json"
    file.write_text('{"keys": [{"name": "x y", "sha256": "7"}]}')

    for command in (("list",), ("add", "alice"), ("revoke", "alice")):
        done = vllmstack("keys", *command, "--deployment", "smoke")

        assert (done.status, done.out) == (1, "")
        assert "deployments/keys.json: keys/0/name: " in done.err
        assert "deployments/keys.json: keys/0/sha256: " in done.err
    assert "x y" in file.read_text()


def test_a_deployment_without_keys_says_how_to_have_some(vllmstack: Run, clone: Clone) -> None:
    clone.deployment(SMOKE)

    done = vllmstack("keys", "add", "alice", "--deployment", "smoke")

    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "vllmstack: deployments/smoke.yaml: gateway/api_keys_file: is missing: no key is asked for\n"
        "  hint: write below `gateway:` the line `api_keys_file: keys.json`; the file is made for you\n"
    )


def test_without_a_running_deployment_its_name_is_asked_for(vllmstack: Run) -> None:
    done = vllmstack("keys", "list")

    assert done.err == "vllmstack: no deployment runs\n  hint: say whose keys they are: --deployment NAME\n"


def test_a_running_deployment_from_elsewhere_is_asked_for_by_path(vllmstack: Run, clone: Clone) -> None:
    clone.is_up(name="elsewhere")

    done = vllmstack("keys", "list")

    assert done.err == (
        "vllmstack: the file of elsewhere, which runs, is not deployments/elsewhere.yaml\n"
        "  hint: name it: --deployment PATH\n"
    )


def test_the_list_fits_a_terminal_and_shows_no_hash(
    vllmstack: Run, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", 80)
    long = "a-team-with-a-rather-long-name.and-more"
    vllmstack("keys", "add", long, "--tokens-per-minute", "1500000", "--models", "smoke,tiny,mix", "--priority",
              "batch", "--debug", "--deployment", "smoke")  # fmt: skip
    vllmstack("keys", "add", "alice", "--requests-per-minute", "1200", "--concurrency", "64", "--deployment", "smoke")

    monkeypatch.setattr(console.out, "width", 80)
    done = vllmstack("keys", "list", "--deployment", "smoke")

    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["name", "models", "req/min", "tok/min", "at", "once", "priority", "made"]
    assert re.fullmatch(r"alice\s+all\s+1,200\s+–\s+64\s+interactive\s+\d{4}-\d\d-\d\d\s*", lines[-1])
    assert "1,500,000" in done.out
    for entry in entries(clone.project.deployments / "keys.json").values():
        assert entry["sha256"] not in done.out


def test_the_list_for_scripts_has_every_setting_and_no_hash(vllmstack: Run) -> None:
    vllmstack("keys", "add", "alice", "--requests-per-minute", "9", "--deployment", "smoke")

    (entry,) = json.loads(vllmstack("keys", "list", "--json", "--deployment", "smoke").out)

    assert (entry["name"], entry["requests_per_minute"], entry["models"]) == ("alice", 9, None)
    assert "sha256" not in entry


def test_an_empty_list_says_how_to_begin(vllmstack: Run) -> None:
    done = vllmstack("keys", "list", "--deployment", "smoke")

    assert (done.status, done.out) == (
        0, "deployments/keys.json: nobody has a key; `vllmstack keys add NAME` makes one\n",
    )  # fmt: skip
