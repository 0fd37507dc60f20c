"""`vllmstack.serving` with real vLLM: the guide's examples in the CPU engine's image, and what is left of a server."""

import json
import re
import signal

import pytest

from tests.stack.conftest import PROJECT, ROOT, Stack
from tests.stack.offline_probe import LINES
from vllmstack.images import load_images

GUIDE = "docs/guides/python.md"
IMAGE = load_images(ROOT / "docker" / "images.yaml").images["engine-cpu"].reference
PACKAGES = ("vllmstack", "tests")


def in_the_engines_image(stack: Stack, *command: str, seconds: float = 300) -> str:
    """Standard output and error of a program there, with what it needs of the clone; its failure fails the test."""
    # Folder by folder: the clone's own is this user's alone, and the image has another.
    mounts = [f"--volume={stack.clone.folder}/{name}:/repository/{name}:ro" for name in ("docs", "models", *PACKAGES)]
    done = stack.clone.run(
        "docker", "run", "--rm", "--init", "--name", f"{PROJECT}-serving", "--entrypoint", "python",
        "--shm-size", "1g", "--memory", "6g", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        *mounts, "--workdir", "/repository",
        "--env", "PYTHONPATH=/repository", "--env", "PYTHONDONTWRITEBYTECODE=1", "--env", "VLLM_NO_USAGE_STATS=1",
        IMAGE, *command,
        seconds=seconds, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.fail(f"{command} exited with {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}")
    return done.stdout + done.stderr


def test_the_guides_examples_do_what_they_show(stack: Stack, figures: list[str]) -> None:
    said = in_the_engines_image(stack, "-m", "tests.stack.guide_examples", GUIDE)

    found = re.search(r"^(\d+) examples, 0 failed$", said, re.MULTILINE)
    assert found, said[-4000:]
    shown = (ROOT / GUIDE).read_text().count("\n>>> ")
    assert int(found[1]) == shown
    figures.append(f"docs/guides/python.md: {shown} examples with vLLM as shown")


def test_an_offline_batch_that_is_killed_leaves_no_engine_and_goes_on(stack: Stack, figures: list[str]) -> None:
    said = in_the_engines_image(stack, "-m", "tests.stack.offline_probe", "/tmp")  # noqa: S108 # the container's own
    found = json.loads(next(line for line in said.splitlines() if line.startswith('{"killed"')))

    assert found["killed"] == -signal.SIGKILL
    assert found["engines"] >= 2  # the server and its engine
    assert found["left"] == found["left_again"] == found["left_by_one_that_failed"] == []
    assert 3 <= found["kept"] < LINES
    assert found["again"] == 0
    assert found["ids"] == sorted(f"q{number}" for number in range(LINES))
    assert len(found["texts"]) == 1
    assert "Paris" in found["texts"][0]
    # vLLM's own words, not those of the exception that it ends with.
    assert "before it answered" in found["said"]
    assert "max_model_len" in found["said"]
    figures.append(f"offline batch: {found['kept']} of {LINES} answers kept over a kill, no process left")
