"""What is in the cache: what counts as present, what is checked, what is removed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub_server import HubServer, Repository
from tests.unit.hub.conftest import MODEL, download, tiny_model, weights
from vllmstack.hub.store import Store
from vllmstack.hub.wishes import Snapshot, Wish, as_json

SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def pulled(store: Store, hub: HubServer) -> Snapshot:
    return download(store, hub).pull(Wish(hub=MODEL))


def shard_of(store: Store, commit: str = "1" * 40) -> Path:
    return store.home / "hub" / "models--org--tiny" / "snapshots" / commit / SHARD


def second_commit(store: Store, hub: HubServer) -> Snapshot:
    hub.repositories[MODEL] = Repository(files={**tiny_model(), SHARD: weights(7)}, commit="2" * 40)
    return download(store, hub).pull(Wish(hub=MODEL, update=True))


def test_an_empty_volume_has_nothing(store: Store) -> None:
    assert (store.snapshots(), store.leftovers()) == ([], {})
    assert store.present(Wish(hub=MODEL)) is None


def test_a_whole_snapshot_is_there_with_its_size(store: Store, pulled: Snapshot) -> None:
    assert store.snapshots() == [pulled]
    assert pulled.size == sum(file.stat().st_size for file in shard_of(store).parent.rglob("*"))
    assert store.revisions_of(MODEL, pulled.commit) == ["main"]
    assert store.leftovers() == {}


@pytest.mark.parametrize("harm", ["missing", "shorter", "no manifest", "broken manifest", "no files"])
def test_what_is_not_whole_does_not_count_as_present(store: Store, pulled: Snapshot, harm: str) -> None:
    (manifest,) = (store.home / "manifests").rglob("*.json")
    match harm:
        case "missing":
            shard_of(store).resolve().unlink()
        case "shorter":
            shard_of(store).resolve().write_bytes(b"half")
        case "no manifest":
            manifest.unlink()
        case "broken manifest":
            manifest.write_text("{")
        case "no files":
            manifest.write_text(json.dumps(as_json(replace(pulled, files=()))))

    assert store.snapshots() == []
    assert store.present(Wish(hub=MODEL)) is None
    assert store.leftovers().keys() == {MODEL}


def test_every_file_is_compared(store: Store, pulled: Snapshot) -> None:
    assert list(store.differences(pulled)) == []
    content = bytearray(shard_of(store).read_bytes())
    content[1000] ^= 1
    shard_of(store).resolve().write_bytes(content)
    (shard_of(store).parent / "config.json").resolve().unlink()

    found = dict(store.differences(pulled))

    assert found.keys() == {SHARD, "config.json"}
    assert found["config.json"] == "is missing"
    assert found[SHARD].startswith("has the digest ")


def test_what_was_found_wrong_is_fetched_again(store: Store, hub: HubServer, pulled: Snapshot) -> None:
    shard_of(store).resolve().write_bytes(weights(8))
    store.forget(MODEL, pulled.commit)
    hub.requests.clear()

    download(store, hub).pull(Wish(hub=MODEL))

    assert shard_of(store).read_bytes() == weights(1)
    assert hub.downloads("/cdn/") == [f"GET /cdn/org/tiny/{SHARD}"]


def test_removing_one_commit_leaves_the_other_whole(store: Store, hub: HubServer, pulled: Snapshot) -> None:
    newer = second_commit(store, hub)

    freed = store.remove(MODEL, pulled.commit)

    assert store.snapshots() == [newer]
    assert list(store.differences(newer)) == []
    assert 300_000 <= freed < 310_000
    assert store.commit_of(MODEL, "main") == newer.commit


def test_removing_the_newer_commit_forgets_the_branch_that_stood_for_it(
    store: Store, hub: HubServer, pulled: Snapshot
) -> None:
    newer = second_commit(store, hub)

    store.remove(MODEL, newer.commit)

    assert store.snapshots() == [pulled]
    assert store.commit_of(MODEL, "main") is None


def test_removing_all_leaves_nothing(store: Store, hub: HubServer, pulled: Snapshot) -> None:
    second_commit(store, hub)

    freed = store.remove(MODEL)

    assert freed > 900_000
    assert (store.snapshots(), store.leftovers()) == ([], {})
    assert not shard_of(store).parent.parent.parent.exists()


def test_the_last_commit_takes_the_rest_with_it(store: Store, pulled: Snapshot) -> None:
    store.remove(MODEL, pulled.commit)

    assert list((store.home / "hub").iterdir()) == []
