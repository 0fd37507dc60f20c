"""Pulling from a hub that works, and from one that does not: huggingface_hub over real HTTP."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import snapshot_download

from tests import hub_server
from tests.hub_server import HubServer, Repository, sha256
from tests.unit.hub.conftest import MODEL, download, tiny_model, weights
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.hub import download as module
from vllmstack.hub.download import Progress
from vllmstack.hub.store import Store
from vllmstack.hub.wishes import Snapshot, Use, Wish

pytestmark = pytest.mark.slow

SHARD = "model-00001-of-00002.safetensors"
NEEDED = {
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("model.safetensors.index.json", SHARD, "model-00002-of-00002.safetensors"),
}


def pull(store: Store, server: HubServer, token: str | None = None, /, **wish: Any) -> Snapshot:
    return download(store, server, token).pull(Wish(**{"hub": MODEL} | wish))


def problem(store: Store, server: HubServer, token: str | None = None, /, **wish: Any) -> Problem:
    with pytest.raises((HostError, InvalidInput)) as failure:
        pull(store, server, token, **wish)
    (found,) = failure.value.problems
    return found


def file_at(store: Store, path: str, commit: str = "1" * 40) -> Path:
    return store.home / "hub" / "models--org--tiny" / "snapshots" / commit / path


def part_of(store: Store, path: str) -> Path:
    """What has come of a file of the tiny model."""
    return store.home / "hub" / "models--org--tiny" / "blobs" / f"{sha256(tiny_model()[path])}.part"


def test_what_vllm_needs_lies_where_vllm_looks_for_it_offline(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pull(store, hub)
    asked = len(hub.requests)

    folder = Path(snapshot_download(MODEL, cache_dir=store.home / "hub", local_files_only=True))
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == NEEDED
    assert (folder / SHARD).read_bytes() == weights(1)
    assert {file.path for file in found.files} == NEEDED
    assert found.commit == "1" * 40
    assert len(hub.requests) == asked


def test_content_is_on_the_disk_before_it_has_its_name_and_its_manifest(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink().name))

    found = pull(store, hub)

    manifest = f".{found.commit}.json.new"
    assert set(synced[: synced.index(manifest)]) == {f"{file.digest}.part" for file in found.files}


def test_what_is_there_already_costs_no_word_with_the_hub(store: Store, hub: HubServer) -> None:
    first = pull(store, hub)
    hub.requests.clear()

    assert pull(store, hub) == first
    assert hub.requests == []


def test_code_comes_only_when_it_is_asked_for(store: Store, hub: HubServer) -> None:
    without = pull(store, hub, revision="1" * 40)
    with_code = pull(store, hub, revision="1" * 40, code=True)

    assert "modeling_tiny.py" not in {file.path for file in without.files}
    assert {file.path for file in with_code.files} == NEEDED | {"modeling_tiny.py"}
    assert len(hub.downloads(SHARD)) == 1


def test_code_of_another_repository_is_refused_where_code_is_trusted(store: Store, hub: HubServer) -> None:
    config = b'{"auto_map": {"AutoConfig": "configuration.Own", "AutoModel": "other/repo--modeling.Model"}}'
    hub.repositories[MODEL].files["config.json"] = config

    said = problem(store, hub, revision="1" * 40, code=True)

    assert said.fact == "runs code of other/repo, which no revision pins"
    assert store.snapshots() == []
    assert pull(store, hub).commit == "1" * 40


def test_a_pull_that_is_killed_is_gone_on_with(store: Store, hub: HubServer) -> None:
    hub.bytes_per_second = 60_000
    program = f"""
from pathlib import Path
import huggingface_hub.constants as constants
from vllmstack.hub.download import Download, Hub
from vllmstack.hub.store import Store
from vllmstack.hub.wishes import Wish
constants.DOWNLOAD_CHUNK_SIZE = 10_000
Download(Store(Path({str(store.home)!r})), Hub(endpoint={hub.url!r}), print).pull(Wish(hub={MODEL!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        deadline = time.monotonic() + 60
        while not part_of(store, SHARD).is_file() or part_of(store, SHARD).stat().st_size < 30_000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    there = part_of(store, SHARD).stat().st_size
    assert store.snapshots() == []
    hub.bytes_per_second = 0
    hub.requests.clear()

    pull(store, hub)

    assert hub.downloads(SHARD) == [f"GET /cdn/org/tiny/{SHARD} bytes={there}-"]
    assert file_at(store, SHARD).read_bytes() == weights(1)


def test_a_connection_that_breaks_is_resumed_where_it_broke(store: Store, hub: HubServer) -> None:
    hub.cut_after[SHARD] = [100_000, 50_000]

    pull(store, hub)

    assert file_at(store, SHARD).read_bytes() == weights(1)
    place = f"GET /cdn/org/tiny/{SHARD}"
    assert hub.downloads(SHARD) == [place, f"{place} bytes=100000-", f"{place} bytes=150000-"]


def test_half_a_download_does_not_count_and_the_next_pull_goes_on_from_there(store: Store, hub: HubServer) -> None:
    hub.cut_after[SHARD] = [200_000, *[0] * 9]

    said = problem(store, hub)

    assert said.file == MODEL
    assert said.fact.startswith(f"{hub.url} cannot be reached: ")
    assert "what has come is kept" in said.hint
    assert store.snapshots() == []
    assert not file_at(store, "config.json").exists()
    assert part_of(store, SHARD).stat().st_size == 200_000
    assert list(store.leftovers()) == [MODEL]

    hub.cut_after.clear()
    hub.requests.clear()
    progress = Progress()
    download(store, hub, progress=progress).pull(Wish(hub=MODEL))

    assert hub.downloads(SHARD) == [f"GET /cdn/org/tiny/{SHARD} bytes=200000-"]
    assert file_at(store, SHARD).read_bytes() == weights(1)
    assert list(store.home.rglob("*.part")) == []
    assert progress.done == progress.total


def test_a_hub_that_sends_all_of_it_again_is_taken_as_that(store: Store, hub: HubServer) -> None:
    hub.cut_after[SHARD] = [100_000]
    hub.ignores_range = True
    progress = Progress()

    download(store, hub, progress=progress).pull(Wish(hub=MODEL))

    assert file_at(store, SHARD).read_bytes() == weights(1)
    assert progress.done == progress.total == sum(map(len, {tiny_model()[name] for name in NEEDED}))


def test_a_corrupt_file_is_refused_and_does_not_stay(store: Store, hub: HubServer) -> None:
    hub.spoiled[SHARD] = weights(99)

    said = problem(store, hub)

    assert said.fact.startswith(f"{SHARD} is corrupt: it has the digest ")
    assert said.hint == "pull again; if it stays so, the mirror or the proxy on the way changes files"
    assert store.snapshots() == []
    assert not any(path.name.startswith("models--org--tiny") for path in store.home.glob("manifests/*"))
    assert not part_of(store, SHARD).exists()


def test_a_small_file_is_checked_too(store: Store, hub: HubServer) -> None:
    hub.spoiled["config.json"] = b'{"model_type": "llamo"}'

    assert problem(store, hub).fact.startswith("config.json is corrupt")


def test_half_a_file_that_is_wrong_is_fetched_anew(store: Store, hub: HubServer) -> None:
    hub.cut_after[SHARD] = [200_000, *[0] * 9]
    problem(store, hub)
    part_of(store, SHARD).write_bytes(b"\0" * 200_000)
    hub.cut_after.clear()

    pull(store, hub)

    assert file_at(store, SHARD).read_bytes() == weights(1)


def test_a_file_shorter_than_the_hub_said_is_refused(store: Store, hub: HubServer) -> None:
    hub.spoiled[SHARD] = weights(1)[:1000]

    assert problem(store, hub).fact.startswith(f"{SHARD} is corrupt")


def test_a_body_that_ends_early_and_tells_no_length_is_gone_on_with(store: Store, hub: HubServer) -> None:
    hub.tells_length = False
    hub.cut_after[SHARD] = [100_000, 0, 50_000]

    pull(store, hub)

    assert file_at(store, SHARD).read_bytes() == weights(1)
    place = f"GET /cdn/org/tiny/{SHARD}"
    rest = f"{place} bytes=100000-"
    assert hub.downloads(SHARD) == [place, rest, rest, f"{place} bytes=150000-"]


def test_what_has_come_of_a_body_that_keeps_ending_early_is_kept(store: Store, hub: HubServer) -> None:
    hub.tells_length = False
    hub.cut_after[SHARD] = [100_000, *[0] * 9]

    said = problem(store, hub)

    assert said.fact == f"{SHARD} is corrupt: it ends after 100,000 of 300,000 bytes"
    assert part_of(store, SHARD).stat().st_size == 100_000


def test_a_hub_that_says_there_is_no_more_of_a_short_file_is_not_believed(store: Store, hub: HubServer) -> None:
    hub.spoiled[SHARD] = weights(1)[:1000]
    hub.refuses_beyond_the_end = True

    assert problem(store, hub).fact == f"{SHARD} is corrupt: it ends after 1,000 of 300,000 bytes"


def test_an_address_that_is_too_old_by_now_is_asked_for_anew(store: Store, hub: HubServer) -> None:
    hub.address_is_good_for = 1
    hub.cut_after[SHARD] = [100_000, 50_000]

    pull(store, hub)

    assert file_at(store, SHARD).read_bytes() == weights(1)
    place = f"GET /cdn/org/tiny/{SHARD}"
    begun, again = [f"{place} bytes=100000-"] * 2, [f"{place} bytes=150000-"] * 2
    assert hub.downloads(SHARD) == [place, *begun, *again]


def test_a_place_that_refuses_what_the_hub_sends_there_for_is_not_told_as_a_gated_model(
    store: Store, hub: HubServer
) -> None:
    hub.content_status = 403

    said = problem(store, hub, "hf_good")

    host = hub.url.replace("http://127.0.0.1", "localhost")
    assert said.fact == f"{host} answers 403, where {hub.url} sends to for a file"
    assert "licence" not in said.hint


def test_an_unknown_model(store: Store, hub: HubServer) -> None:
    assert problem(store, hub, hub="org/tyni") == Problem(
        file="org/tyni",
        fact="the hub has no such model, or it is private and there is no token",
        hint="check the id, ORGANISATION/NAME, on the hub",
    )
    assert problem(store, hub, "hf_good", hub="org/tyni").fact == (
        "the hub has no such model, or the token may not see it"
    )


@pytest.mark.parametrize("name", ["foo--bar", "x" * 100])
def test_what_can_be_no_id_is_not_the_hubs_fault(store: Store, hub: HubServer, name: str) -> None:
    assert problem(store, hub, hub=f"org/{name}").fact == "is no hub id"
    assert hub.requests == []


def test_an_unknown_revision(store: Store, hub: HubServer) -> None:
    assert problem(store, hub, revision="v9") == Problem(
        file=MODEL,
        fact="has no branch, tag or commit v9",
        hint="see the branches and tags on the model's page",
    )


def test_a_gated_model_without_a_token_with_a_wrong_one_and_with_the_right_one(store: Store, hub: HubServer) -> None:
    hub.repositories[MODEL].gated = True

    assert problem(store, hub).fact == "is gated, and there is no token"
    assert problem(store, hub, "hf_stranger").fact == "is gated, and the token has no access to it"
    assert problem(store, hub, "nonsense").fact == "the hub does not take the token"
    assert store.snapshots() == []
    assert pull(store, hub, "hf_good").commit == "1" * 40


def test_the_token_goes_to_the_hub_alone(store: Store, hub: HubServer) -> None:
    pull(store, hub, "hf_good")

    by_place = {path.split("/")[1]: seen for path, seen in hub.authorizations}
    assert by_place == {"api": "Bearer hf_good", "org": "Bearer hf_good", "cdn": None}


@pytest.mark.parametrize(
    ("status", "fact"),
    [(503, "answers 503"), (429, "the hub asks to come back later (429)"), (403, "the token may not read it")],
)
def test_a_hub_that_refuses(store: Store, hub: HubServer, status: int, fact: str) -> None:
    hub.status = status

    assert problem(store, hub).fact.endswith(fact)


def test_nobody_answers(store: Store) -> None:
    said = problem(store, HubServer(url="http://127.0.0.1:9"))

    assert said.fact == "http://127.0.0.1:9 cannot be reached: connection refused"


def test_what_answers_is_no_hub(store: Store, hub: HubServer) -> None:
    hub.is_a_hub = False

    assert problem(store, hub) == Problem(
        file=MODEL,
        fact=f"{hub.url} does not answer as a hub does",
        hint="check HF_ENDPOINT, and a proxy on the way",
    )


@pytest.mark.parametrize("kind", ["sha256", "git_blob"])
@pytest.mark.parametrize("digest", ["../../../../evil", "A" * 64, "1" * 39])
def test_what_is_no_digest_becomes_no_files_name(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch, kind: str, digest: str
) -> None:
    monkeypatch.setattr(hub_server, kind, lambda _: digest)

    assert problem(store, hub).fact == f"{hub.url} does not answer as a hub does"
    assert hub.downloads() == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=256 * 1024 * 1024 + 400_000))

    said = problem(store, hub)

    assert said.fact == "needs 0.0 GiB more, and the disk of the volume hub-cache has 0.3 GiB free"
    assert hub.downloads("/cdn/") == []
    assert store.snapshots() == []


def test_a_disk_that_fills_meanwhile_is_one_line_and_what_has_come_stays(
    store: Store, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module._Counted.write

    def full(self: Any, data: bytes) -> int:
        if self._stream.tell() >= 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data[:100_000])

    monkeypatch.setattr(module._Counted, "write", full)

    said = problem(store, hub)

    assert said.fact == "the disk is full"
    assert store.snapshots() == []


def test_two_pulls_of_one_model_fetch_it_once(store: Store, hub: HubServer) -> None:
    hub.bytes_per_second = 2_000_000
    threads = [threading.Thread(target=lambda: pull(store, hub)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(hub.downloads(SHARD)) == 1


def test_a_branch_that_moves_is_followed_only_on_request(store: Store, hub: HubServer) -> None:
    pull(store, hub)
    hub.repositories[MODEL] = Repository(
        files={**tiny_model(), "generation_config.json": b'{"top_k": 1}'}, commit="2" * 40
    )

    assert pull(store, hub).commit == "1" * 40
    hub.requests.clear()
    moved = pull(store, hub, update=True)

    assert moved.commit == "2" * 40
    assert store.commit_of(MODEL, "main") == "2" * 40
    assert hub.downloads() == [f"GET /org/tiny/resolve/{'2' * 40}/generation_config.json"]
    assert file_at(store, SHARD, "2" * 40).read_bytes() == weights(1)
    assert pull(store, hub).commit == "2" * 40


def test_what_is_locked_is_fetched_without_asking_what_there_is(store: Store, hub: HubServer, tmp_path: Path) -> None:
    locked = pull(store, hub)
    hub.requests.clear()
    other = Store(tmp_path / "other")

    found = pull(other, hub, commit=locked.commit, files=locked.files)

    assert found == locked
    assert not any("/api/" in one for one in hub.requests)
    assert other.commit_of(MODEL, "main") == locked.commit


def test_a_hub_whose_commit_holds_something_else_than_the_lock_says_is_refused(
    store: Store, hub: HubServer, tmp_path: Path
) -> None:
    locked = pull(store, hub)
    hub.repositories[MODEL].files[SHARD] = weights(99)

    said = problem(Store(tmp_path / "other"), hub, commit=locked.commit, files=locked.files)

    assert said.fact.startswith(f"{SHARD} is corrupt")


def test_what_is_locked_but_not_enough_is_compared_with_the_hubs_list(
    store: Store, hub: HubServer, tmp_path: Path
) -> None:
    small = pull(store, hub, use=Use.CONFIG)
    other = Store(tmp_path / "other")
    hub.repositories[MODEL].files["config.json"] = b'{"model_type": "llamo"}'

    said = problem(other, hub, commit=small.commit, files=small.files)

    assert (said.place, said.fact) == ("config.json", "is not what models.lock says of the commit 111111111111")
    assert hub.downloads(SHARD) == []
    hub.repositories[MODEL].files["config.json"] = tiny_model()["config.json"]
    assert {file.path for file in pull(other, hub, commit=small.commit, files=small.files).files} == NEEDED


def test_weights_that_are_safe_are_no_pickles_though_these_were_allowed(store: Store, hub: HubServer) -> None:
    assert not pull(store, hub, pickles=True).pickles


def test_pickles_are_refused_unless_they_are_asked_for(store: Store, hub: HubServer) -> None:
    pickled = {name: content for name, content in tiny_model().items() if "safetensors" not in name}
    hub.repositories[MODEL].files = pickled

    said = problem(store, hub)
    found = pull(store, hub, pickles=True)

    assert said.fact == ("has its weights only as pickles (pytorch_model.bin), which run code when they are loaded")
    assert "pytorch_model.bin" in {file.path for file in found.files}
    # Nor does what is there count for somebody who has not asked for pickles.
    assert problem(store, hub).fact == said.fact


def test_a_tokenizer_alone_does_not_count_as_the_model(store: Store, hub: HubServer) -> None:
    small = pull(store, hub, use=Use.CONFIG)
    whole = pull(store, hub)

    assert SHARD not in {file.path for file in small.files}
    assert {file.path for file in whole.files} == NEEDED
