"""`vllmstack batch run` through the real gateway to real vLLM: killed in its midst, and gone on with."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stack.conftest import Stack, await_condition, environment

LINES = 60


@pytest.fixture
def source(stack: Stack, tmp_path: Path) -> Path:
    """Questions whose answers are known, one name twice, and two lines that are wrong."""
    file = tmp_path / "questions.jsonl"
    lines = [
        {
            "custom_id": f"q{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "smoke",
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
                "temperature": 0,
                "max_tokens": 24,
            },
        }
        for number in range(LINES)
    ]
    lines += [lines[0], {**lines[1], "custom_id": "unknown", "body": {**lines[1]["body"], "model": "none"}}]  # type: ignore[dict-item]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    return file


def documents(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_batch_that_is_killed_goes_on_and_answers_each_line_once(stack: Stack, source: Path) -> None:
    answers, errors = source.with_name("questions.answers.jsonl"), source.with_name("questions.errors.jsonl")
    command = [sys.executable, "-m", "vllmstack", "batch", "run", str(source), "--concurrency", "2"]
    variables = {**environment(), "VLLMSTACK_API_KEY": stack.key or ""}
    first = subprocess.Popen(
        command, cwd=stack.clone.folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await_condition(
            lambda: answers.is_file() and answers.read_bytes().count(b"\n") >= 5, seconds=120, what="five answers"
        )
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    kept = documents(answers)
    assert 5 <= len(kept) < LINES

    again = subprocess.run(
        command, cwd=stack.clone.folder, env=variables, capture_output=True, text=True, timeout=300, check=False
    )

    assert again.returncode == 1, again.stderr
    assert f"{len(kept)} of {LINES + 3} lines are done already" in again.stderr
    assert f"{LINES} answers in " in again.stderr
    assert "3 lines have no answer" in again.stderr
    found = documents(answers)
    assert found[: len(kept)] == kept
    assert sorted(one["custom_id"] for one in found) == sorted(f"q{number}" for number in range(LINES))
    assert {one["response"]["status_code"] for one in found} == {200}
    assert all("Paris" in one["response"]["body"]["choices"][0]["message"]["content"] for one in found)
    assert sorted((one["custom_id"] or "", one["response"] is None) for one in documents(errors)) == [
        ("", True),
        ("q0", True),
        ("unknown", False),
    ]
