"""A hub model's snapshot, read out of the stack's volume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.image_store import ImageStore
from vllmstack.errors import HostError
from vllmstack.host.hub_volume import HubVolume
from vllmstack.hub.wishes import HubFile, Snapshot, Use, Wish, as_json

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLAMA = Wish(hub="org/llama")
SIZES = {"config.json": 2, "copied.txt": 7, "model.safetensors": 7000, "original/params.json": 2}


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """With org/llama in the volume, as huggingface_hub keeps it."""
    volume = tmp_path / "volume"
    repository = volume / "hub" / "models--org--llama"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (repository / "blobs", repository / "refs", snapshot / "original"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs" / "aaa").write_text("{}")
    (repository / "blobs" / "bbb").write_bytes(b"weights" * 1000)
    (repository / "blobs" / "ccc.incomplete").write_bytes(b"half")
    (snapshot / "config.json").symlink_to("../../blobs/aaa")
    (snapshot / "model.safetensors").symlink_to("../../blobs/bbb")
    (snapshot / "original" / "params.json").symlink_to("../../../blobs/aaa")
    (snapshot / "copied.txt").write_text("no link")
    keep_manifest(volume)
    made = ImageStore(tmp_path)
    made.volumes_here["vllmstack_hub-cache"] = volume
    return made


def keep_manifest(volume: Path, sizes: dict[str, int] = SIZES, **values: Any) -> Path:
    """As the hub's container writes it when all was checked."""
    files = tuple(HubFile(path=path, size=size, blob="a" * 40) for path, size in sizes.items())
    file = volume / "manifests" / "models--org--llama" / f"{COMMIT}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(as_json(Snapshot(hub="org/llama", commit=COMMIT, files=files, **values))))
    return file


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_links_are_read_as_what_they_lead_to(store: ImageStore, revision: str) -> None:
    with HubVolume(store.client, "gateway") as volume:
        snapshot = volume.snapshot(Wish(hub="org/llama", revision=revision))
        contents = {one.path: b"".join(one.read()) for one in snapshot.files}

    assert snapshot.commit == COMMIT
    assert contents == {
        "config.json": b"{}",
        "copied.txt": b"no link",
        "model.safetensors": b"weights" * 1000,
        "original/params.json": b"{}",
    }
    assert {one.path: one.size_bytes for one in snapshot.files} == {
        path: len(content) for path, content in contents.items()
    }


def test_the_container_goes_with_the_block(store: ImageStore) -> None:
    with HubVolume(store.client, "gateway") as volume:
        volume.snapshot(LLAMA)
        assert store.containers_left == 1

    assert store.containers_left == 0


def test_without_hub_models_no_container_is_made(store: ImageStore) -> None:
    with HubVolume(store.client, "gateway"):
        pass

    assert store.containers_left == 0


@pytest.mark.parametrize(("hub", "revision"), [("org/other", "main"), ("org/llama", "v2")])
def test_what_was_not_downloaded_is_one_line(store: ImageStore, hub: str, revision: str) -> None:
    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError) as caught:
        volume.snapshot(Wish(hub=hub, revision=revision))

    assert str(caught.value) == (
        f"{hub} (revision {revision}) is not in the volume hub-cache: its weights were not downloaded yet\n"
        f"  hint: `vllmstack models pull {hub}` downloads them"
    )


def become_pickles(volume: Path) -> None:
    folder = volume / "hub" / "models--org--llama" / "snapshots" / COMMIT
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_weights(volume: Path) -> None:
    keep_manifest(volume, {"config.json": 2})


def only_pickles_that_nobody_allowed(volume: Path) -> None:
    become_pickles(volume)
    keep_manifest(volume, {"config.json": 2, "pytorch_model.bin": 7000})


def with_a_file_that_is_gone(volume: Path) -> None:
    keep_manifest(volume, {**SIZES, "tokenizer.json": 5})


def with_a_file_that_has_shrunk(volume: Path) -> None:
    (volume / "hub" / "models--org--llama" / "blobs" / "bbb").write_bytes(b"half")


def found_corrupt(volume: Path) -> None:
    keep_manifest(volume).unlink()  # as `vllmstack models verify` does


def unreadable(volume: Path) -> None:
    keep_manifest(volume).write_text("{")


@pytest.mark.parametrize(
    "harm",
    [
        *(without_weights, only_pickles_that_nobody_allowed, with_a_file_that_is_gone),
        *(with_a_file_that_has_shrunk, found_corrupt, unreadable),
    ],
)
def test_a_folder_of_links_that_is_not_whole_does_not_count(store: ImageStore, harm: Callable[[Path], None]) -> None:
    harm(store.volumes_here["vllmstack_hub-cache"])

    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError, match="were not downloaded yet"):
        volume.snapshot(LLAMA)


def test_only_what_was_checked_travels(store: ImageStore) -> None:
    keep_manifest(store.volumes_here["vllmstack_hub-cache"], {"config.json": 2, "model.safetensors": 7000})

    with HubVolume(store.client, "gateway") as volume:
        found = volume.snapshot(LLAMA)

    assert [one.path for one in found.files] == ["config.json", "model.safetensors"]


def test_the_locked_commit_travels_whatever_the_branch_is_here(store: ImageStore) -> None:
    here = store.volumes_here["vllmstack_hub-cache"]
    (here / "hub" / "models--org--llama" / "refs" / "main").write_text("f" * 40)

    with HubVolume(store.client, "gateway") as volume:
        assert volume.snapshot(Wish(hub="org/llama", commit=COMMIT)).commit == COMMIT


def test_what_is_not_as_it_is_locked_does_not_travel(store: ImageStore) -> None:
    other = HubFile(path="model.safetensors", size=7000, blob="b" * 40)

    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError, match="is not in the volume"):
        volume.snapshot(Wish(hub="org/llama", commit=COMMIT, files=(other,)))


def test_what_another_deployment_needs_of_the_same_commit_stays(store: ImageStore) -> None:
    here = store.volumes_here["vllmstack_hub-cache"]
    folder = here / "hub" / "models--org--llama" / "snapshots" / COMMIT
    more = {"modeling.py": 4, "consolidated.safetensors": 4}
    for name in more:
        (folder / name).write_text("more")
    keep_manifest(here, {"config.json": 2, "model.safetensors": 7000, **more}, code=True)

    with HubVolume(store.client, "gateway") as volume:
        assert [one.path for one in volume.snapshot(LLAMA).files] == ["config.json", "model.safetensors"]


def test_pickles_that_somebody_allowed_are_weights_and_an_adapters_count_too(store: ImageStore) -> None:
    here = store.volumes_here["vllmstack_hub-cache"]
    become_pickles(here)
    keep_manifest(here, {"config.json": 2, "pytorch_model.bin": 7000}, pickles=True)

    with HubVolume(store.client, "gateway") as volume:
        for use in (Use.MODEL, Use.ADAPTER):
            assert len(volume.snapshot(Wish(hub="org/llama", use=use)).files) == 2


def test_no_volume_is_made_where_there_is_none(store: ImageStore) -> None:
    store.volumes_here.clear()

    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError, match="is not in the volume"):
        volume.snapshot(LLAMA)

    assert store.containers_left == 0


def test_a_link_out_of_the_volume_is_refused(store: ImageStore) -> None:
    folder = store.volumes_here["vllmstack_hub-cache"] / "hub" / "models--org--llama" / "snapshots" / COMMIT
    (folder / "stolen").symlink_to("/etc/passwd")

    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError, match="is a link out of the volume"):
        volume.snapshot(LLAMA)
