"""models.lock: its text, what it takes over, and mistakes in it."""

import json

import pytest
import yaml

from vllmstack.deployment.model_lock import ModelLock, lock_text, parse_lock
from vllmstack.errors import InvalidInput, Problem
from vllmstack.hub.wishes import HubFile, Snapshot, Use, Wish

FILES = (
    HubFile(path="config.json", size=2, blob="b" * 40),
    HubFile(path="model.safetensors", size=30, sha256="c" * 64, blob="d" * 40),
    HubFile(path="modeling.py", size=3, blob="e" * 40),
)
SNAPSHOT = Snapshot(hub="org/llama", commit="a" * 40, files=FILES, code=True)
TEXT = f"""\
models:
- hub: org/llama
  revision: main
  commit: {"a" * 40}
  files:
    config.json: {{bytes: 2, blob: {"b" * 40}}}
    model.safetensors: {{bytes: 30, sha256: {"c" * 64}}}
"""


def locked() -> ModelLock:
    return ModelLock().with_snapshot(Wish(hub="org/llama"), SNAPSHOT)


def test_a_file_is_a_line_and_code_that_nobody_asked_for_is_left_out() -> None:
    assert lock_text(locked()).partition("models:")[1:] == ("models:", TEXT.removeprefix("models:"))


def test_it_reads_what_it_writes() -> None:
    assert parse_lock(yaml.safe_load(lock_text(locked())), "models.lock") == locked()


def test_a_newer_commit_takes_the_place_of_the_older() -> None:
    moved = Snapshot(hub="org/llama", commit="f" * 40, files=FILES)

    lock = locked().with_snapshot(Wish(hub="org/llama"), moved)
    both = lock.with_snapshot(Wish(hub="org/llama", revision="v1"), SNAPSHOT)

    assert [(one.revision, one.commit[0]) for one in lock.models] == [("main", "f")]
    assert [(one.revision, one.commit[0]) for one in both.models] == [("main", "f"), ("v1", "a")]


def test_what_another_use_of_the_same_commit_locked_stays() -> None:
    without_code, with_code = Wish(hub="org/llama"), Wish(hub="org/llama", code=True)
    both = ModelLock().with_snapshot(with_code, SNAPSHOT)

    (after_a_model,) = both.with_snapshot(without_code, SNAPSHOT).models
    (after_a_tokenizer,) = both.with_snapshot(Wish(hub="org/llama", use=Use.CONFIG), SNAPSHOT).models

    assert after_a_model == after_a_tokenizer == both.models[0]
    assert after_a_model.code
    assert set(after_a_model.files) == {file.path for file in FILES}


def test_a_tokenizer_locks_no_weights_that_are_there_by_chance() -> None:
    (entry,) = ModelLock().with_snapshot(Wish(hub="org/llama", use=Use.CONFIG), SNAPSHOT).models

    assert entry.files.keys() == {"config.json"}


def test_pickles_that_were_allowed_are_said_only_of_those_that_have_some() -> None:
    allowed = Wish(hub="org/llama", pickles=True)
    pickled = (FILES[0], HubFile(path="pytorch_model.bin", size=30, sha256="c" * 64))

    (safe,) = ModelLock().with_snapshot(allowed, Snapshot(hub="org/llama", commit="a" * 40, files=FILES)).models
    (other,) = ModelLock().with_snapshot(allowed, Snapshot(hub="org/llama", commit="a" * 40, files=pickled)).models

    assert (safe.pickles, other.pickles) == (False, True)


def test_a_commit_has_all_that_its_revisions_have_locked() -> None:
    lock = (
        ModelLock()
        .with_snapshot(Wish(hub="org/llama", use=Use.CONFIG), SNAPSHOT)
        .with_snapshot(Wish(hub="org/llama", revision="v1"), SNAPSHOT)
    )

    assert lock.files_at("org/llama", "a" * 40).keys() == {"config.json", "model.safetensors"}


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInput) as failure:
        parse_lock(yaml.safe_load(text), "models.lock")
    return failure.value.problems


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("commit: aaaa", "commit: aaa", "models/0/commit"),
        ("bytes: 30", "bytes: -1", "models/0/files/model.safetensors/bytes"),
        ("sha256: cc", "sha256: c", "models/0/files/model.safetensors/sha256"),
        ("  revision:", "  revisoin:", "models/0/revisoin"),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, place: str) -> None:
    assert place in {problem.place for problem in problems(TEXT.replace(old, new))}


def test_a_file_needs_just_one_digest() -> None:
    (problem,) = problems(TEXT.replace(f", sha256: {'c' * 64}", ""))

    assert problem.place == "models/0/files/model.safetensors"
    assert problem.fact == "does not have just one of `sha256` and `blob`"


@pytest.mark.parametrize("path", ["../config.json", "/etc/config.json", "x\n/../config.json"])
def test_a_path_out_of_the_models_folder_is_a_mistake(path: str) -> None:
    (problem,) = problems(TEXT.replace("config.json", json.dumps(path)))

    assert (problem.place, problem.fact) == ("models/0/files", f"{path!r} leads out of the model's folder")


def test_a_revision_that_is_locked_twice_is_a_mistake() -> None:
    (problem,) = problems(TEXT + TEXT.removeprefix("models:\n"))

    assert (problem.place, problem.fact) == ("models/1", "org/llama is locked at main already")
