"""What the container says, line by line, and its status."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import HubServer
from tests.unit.hub.conftest import MODEL, weights
from vllmstack.hub import __main__ as program
from vllmstack.hub.store import Store
from vllmstack.hub.wishes import Wish, as_json, snapshot_from, wish_from

pytestmark = pytest.mark.slow

SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def run(store: Store, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs an action on wishes; the status and the lines."""
    monkeypatch.setenv("HF_HOME", str(store.home))
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    monkeypatch.setattr(program, "TOKEN_FILE", tmp_path / "hub_token")
    monkeypatch.setattr(program, "PROGRESS_SECONDS", 0.05)

    def call(action: str, *wishes: Wish) -> tuple[int, list[dict[str, Any]]]:
        request = tmp_path / "request.json"
        request.write_text(json.dumps({"wishes": [as_json(wish) for wish in wishes]}))
        capsys.readouterr()
        status = program.main([action, str(request)])
        return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def test_a_wish_survives_its_way_into_the_container(store: Store, hub: HubServer) -> None:
    wish = Wish(hub=MODEL, revision="v1", code=True, commit="1" * 40)

    assert wish_from(json.loads(json.dumps(as_json(wish)))) == wish


def test_the_container_needs_nothing_but_huggingface_hub() -> None:
    program = """
import sys
sys.modules.update(dict.fromkeys(("pydantic", "docker", "rich")))  # None: cannot be imported
import vllmstack.hub.__main__, vllmstack.hub.download
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_pull_says_how_far_it_is_and_ends_with_what_there_is(run: Any, store: Store, hub: HubServer) -> None:
    hub.bytes_per_second = 2_000_000

    status, lines = run("pull", Wish(hub=MODEL))

    assert status == 0
    assert lines[0]["message"] == f"{MODEL}: asking {hub.url}"
    shares = [line["progress"] for line in lines if "progress" in line]
    assert len(shares) >= 2
    assert shares[-1]["done"] == shares[-1]["total"]
    result = dict(lines[-1]["result"])
    assert result.pop("revision") == "main"
    assert snapshot_from(result) == store.snapshots()[0]
    assert all(line.keys() >= {"time", "level", "message"} for line in lines)


def test_a_warm_volume_is_told_in_one_line(run: Any, hub: HubServer) -> None:
    run("pull", Wish(hub=MODEL))
    hub.requests.clear()

    status, lines = run("pull", Wish(hub=MODEL))

    assert (status, [line["message"] for line in lines]) == (0, [f"{MODEL}: 111111111111 is there"])
    assert hub.requests == []


def test_what_fails_does_not_keep_the_rest_from_coming(run: Any) -> None:
    status, lines = run("pull", Wish(hub="org/none"), Wish(hub=MODEL))

    assert status == 1
    assert [line["result"]["hub"] for line in lines if "result" in line] == [MODEL]
    (problem,) = [line["problem"] for line in lines if "problem" in line]
    assert problem["file"] == "org/none"
    assert problem["fact"].startswith("the hub has no such model")


def test_the_token_is_read_from_its_file(run: Any, hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[MODEL].gated = True
    (tmp_path / "hub_token").write_text("hf_good\n")

    status, lines = run("pull", Wish(hub=MODEL))

    assert status == 0
    assert "hf_good" not in json.dumps(lines)


@pytest.mark.parametrize("content", [b"hf_secretsecret\nhf_othertoken\n", "hf_secretsecret’\n".encode(), b"hf_\xff"])
def test_what_is_no_token_is_neither_sent_nor_shown(run: Any, hub: HubServer, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hub_token").write_bytes(content)

    status, lines = run("pull", Wish(hub=MODEL))

    assert status == 1
    (problem,) = [line["problem"] for line in lines if "problem" in line]
    assert (problem["file"], problem["fact"]) == ("secrets/hub_token", "holds no token: that is one word of ASCII")
    assert "hf_" not in json.dumps(lines)
    assert hub.requests == []


def test_list_has_what_is_whole_and_what_is_not(run: Any, hub: HubServer, store: Store) -> None:
    run("pull", Wish(hub=MODEL))
    half = store.home / "hub" / "models--org--half" / "blobs" / "abc.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"1234")

    status, lines = run("list")

    assert status == 0
    assert [(line["result"]["hub"], line["result"]["revisions"]) for line in lines if "result" in line] == [
        (MODEL, ["main"])
    ]
    assert [line["leftover"] for line in lines if "leftover" in line] == [{"hub": "org/half", "size": 4}]


def test_verify_finds_the_file_that_has_changed_and_the_next_pull_mends_it(run: Any, store: Store) -> None:
    _, lines = run("pull", Wish(hub=MODEL))
    assert run("verify", Wish(hub=MODEL))[0] == 0
    shard = store.home / "hub" / "models--org--tiny" / "snapshots" / ("1" * 40) / SHARD
    shard.resolve().write_bytes(weights(9))

    status, lines = run("verify", Wish(hub=MODEL))

    assert status == 1
    (problem,) = [line["problem"] for line in lines if "problem" in line]
    assert (problem["file"], problem["place"]) == (MODEL, SHARD)
    assert problem["hint"] == f"`vllmstack models pull {MODEL}` fetches it"
    assert run("pull", Wish(hub=MODEL))[0] == 0
    assert shard.read_bytes() == weights(1)


def test_verify_compares_with_the_lock_what_it_has_and_the_rest_with_what_the_hub_said(run: Any, store: Store) -> None:
    run("pull", Wish(hub=MODEL))
    (found,) = store.snapshots()
    locked = tuple(file for file in found.files if file.path.endswith(".json"))
    wish = Wish(hub=MODEL, commit=found.commit, files=locked)
    (store.home / "hub" / "models--org--tiny" / "snapshots" / found.commit / SHARD).resolve().write_bytes(weights(9))

    _, lines = run("verify", wish)

    assert [line["problem"]["place"] for line in lines if "problem" in line] == [SHARD]
    run("remove", Wish(hub=MODEL))
    _, lines = run("verify", wish)
    assert [line["problem"]["fact"] for line in lines if "problem" in line] == ["is not in the volume, or not whole"]


def test_verify_of_what_is_not_there(run: Any) -> None:
    status, lines = run("verify", Wish(hub=MODEL))

    assert status == 1
    assert lines[-1]["problem"]["fact"] == "is not in the volume, or not whole"


def test_remove_says_what_is_free_again(run: Any, store: Store) -> None:
    run("pull", Wish(hub=MODEL))

    status, lines = run("remove", Wish(hub=MODEL))

    assert status == 0
    assert lines[-1]["result"]["freed"] > 600_000
    assert store.snapshots() == []
