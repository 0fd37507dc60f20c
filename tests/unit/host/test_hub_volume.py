"""A hub model's snapshot, read out of the stack's volume."""

from pathlib import Path

import pytest

from tests.unit.image_store import ImageStore
from vllmstack.errors import HostError
from vllmstack.host.hub_volume import HubVolume

COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
    made = ImageStore(tmp_path)
    made.volumes_here["vllmstack_hub-cache"] = volume
    return made


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_links_are_read_as_what_they_lead_to(store: ImageStore, revision: str | None) -> None:
    with HubVolume(store.client, "gateway") as volume:
        snapshot = volume.snapshot("org/llama", revision)
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
        volume.snapshot("org/llama", None)
        assert store.containers_left == 1

    assert store.containers_left == 0


def test_without_hub_models_no_container_is_made(store: ImageStore) -> None:
    with HubVolume(store.client, "gateway"):
        pass

    assert store.containers_left == 0


@pytest.mark.parametrize(("hub", "revision"), [("org/other", None), ("org/llama", "v2")])
def test_what_was_not_downloaded_is_one_line(store: ImageStore, hub: str, revision: str | None) -> None:
    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError) as caught:
        volume.snapshot(hub, revision)

    assert str(caught.value) == (
        f"{hub} (revision {revision or 'main'}) is not in the volume hub-cache: its weights were not downloaded yet\n"
        f"  hint: `vllmstack models pull {hub}` downloads them"
    )


def test_no_volume_is_made_where_there_is_none(store: ImageStore) -> None:
    store.volumes_here.clear()

    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError, match="is not in the volume"):
        volume.snapshot("org/llama", None)

    assert store.containers_left == 0


def test_a_link_out_of_the_volume_is_refused(store: ImageStore) -> None:
    folder = store.volumes_here["vllmstack_hub-cache"] / "hub" / "models--org--llama" / "snapshots" / COMMIT
    (folder / "stolen").symlink_to("/etc/passwd")

    with HubVolume(store.client, "gateway") as volume, pytest.raises(HostError, match="is a link out of the volume"):
        volume.snapshot("org/llama", None)
