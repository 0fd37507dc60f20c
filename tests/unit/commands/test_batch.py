"""`vllmstack batch run`: a file of requests, answered once each, and what is wrong with files and servers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.conftest import KEY, ROOT, Clone, FakeGateway, Outcome
from vllmstack.commands import batch, batch_progress
from vllmstack.errors import Problem, StackError
from vllmstack.serving import server

pytestmark = pytest.mark.slow

Run = Callable[..., Outcome]
COMPLETIONS = "/v1/completions"
ANSWER = json.dumps({"id": "cmpl-1", "choices": [{"text": "Paris"}]})


@pytest.fixture(autouse=True)
def running(clone: Clone, gateway: FakeGateway) -> None:
    clone.is_up(gateway.url)
    gateway.answer(COMPLETIONS, ANSWER)


@pytest.fixture
def source(clone: Clone) -> Path:
    return written(clone.root / "in.jsonl", [request(number) for number in range(1, 6)])


def request(number: int, **changes: Any) -> dict[str, Any]:
    body = {"model": "smoke", "prompt": f"Line {number}"}
    return {"custom_id": f"c{number}", "method": "POST", "url": COMPLETIONS, "body": body} | changes


def written(file: Path, lines: list[Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def documents(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def asked(gateway: FakeGateway) -> list[str]:
    return sorted(json.loads(body)["prompt"] for path, _, body in gateway.requests if path == COMPLETIONS)


def test_every_line_is_answered_in_openais_format(vllmstack: Run, gateway: FakeGateway, source: Path) -> None:
    done = vllmstack("batch", "run", "in.jsonl")

    assert (done.status, done.out) == (0, "")
    assert done.err == "• 5 answers in in.answers.jsonl\n"
    answers = documents(source.with_name("in.answers.jsonl"))
    assert sorted(one["custom_id"] for one in answers) == ["c1", "c2", "c3", "c4", "c5"]
    assert answers[0]["response"] == {"status_code": 200, "request_id": "", "body": json.loads(ANSWER)}
    assert asked(gateway) == [f"Line {number}" for number in range(1, 6)]
    assert not source.with_name("in.errors.jsonl").exists()


def test_what_is_done_is_not_asked_again(vllmstack: Run, gateway: FakeGateway, source: Path) -> None:
    vllmstack("batch", "run", "in.jsonl")
    file = source.with_name("in.answers.jsonl")
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[:3]) + kept[3][:20])
    gateway.requests.clear()

    done = vllmstack("batch", "run", "in.jsonl")

    assert done.status == 0
    assert "3 of 5 lines are done already" in done.err
    assert len(asked(gateway)) == 2
    assert sorted(one["custom_id"] for one in documents(file)) == ["c1", "c2", "c3", "c4", "c5"]


def test_a_whole_batch_is_not_begun_again(vllmstack: Run, gateway: FakeGateway, source: Path) -> None:
    vllmstack("batch", "run", "in.jsonl")
    gateway.requests.clear()

    done = vllmstack("batch", "run", "in.jsonl", "--offline", "no/model")

    assert (done.status, gateway.requests) == (0, [])


def test_bad_lines_are_kept_with_their_reasons(vllmstack: Run, gateway: FakeGateway, clone: Clone) -> None:
    file = clone.root / "in.jsonl"
    written(file, [request(1), request(1), request(2, url="/v1/models"), request(3, method="GET")])
    file.write_text(file.read_text() + "{broken\n\n[]\n")

    done = vllmstack("batch", "run", "in.jsonl")

    assert done.status == 1
    assert "! 5 lines have no answer: in.errors.jsonl says why; `--again` sends them once more" in done.err
    errors = documents(clone.root / "in.errors.jsonl")
    assert [(one["custom_id"], one["error"]["message"]) for one in errors] == [
        ("c1", "line 2 has the `custom_id` of a line before it"),
        ("c2", "line 3 has a `url` that is none of /v1/chat/completions, /v1/completions, /v1/embeddings"),
        ("c3", "line 4 has a `method` that is not POST"),
        (None, "line 5 is no JSON"),
        (None, "line 7 is no JSON object"),
    ]
    assert asked(gateway) == ["Line 1"]


def test_lines_that_failed_are_sent_again_when_asked(vllmstack: Run, gateway: FakeGateway, source: Path) -> None:
    gateway.answer(COMPLETIONS, json.dumps({"error": {"message": "no such model"}}), status=404)
    first = vllmstack("batch", "run", "in.jsonl")
    gateway.answer(COMPLETIONS, ANSWER)

    same, again = vllmstack("batch", "run", "in.jsonl"), vllmstack("batch", "run", "in.jsonl", "--again")

    assert (first.status, same.status, again.status) == (1, 1, 0)
    assert len(documents(source.with_name("in.answers.jsonl"))) == 5
    assert not source.with_name("in.errors.jsonl").exists()


def test_the_model_is_put_in_and_the_stacks_key_sent(
    vllmstack: Run, gateway: FakeGateway, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLMSTACK_API_KEY", KEY)
    written(clone.root / "in.jsonl", [request(1, body={"prompt": "Hello"})])

    done = vllmstack("batch", "run", "in.jsonl", "--model", "other", "--url", f"{gateway.url}/v1")

    assert done.status == 0
    ((path, headers, body),) = gateway.requests
    assert (path, json.loads(body)) == (COMPLETIONS, {"model": "other", "prompt": "Hello"})
    assert headers["authorization"] == f"Bearer {KEY}"


def test_a_key_that_is_refused_is_one_line(vllmstack: Run, gateway: FakeGateway, source: Path) -> None:
    gateway.answer(COMPLETIONS, json.dumps({"error": {"message": "wrong API key"}}), status=401)

    done = vllmstack("batch", "run", "in.jsonl")

    assert done.status == 1
    assert "vllmstack: the server refuses the key: " in done.err
    assert done.err.endswith("export VLLMSTACK_API_KEY=…; the same command goes on where this one was\n")
    assert source.with_name("in.errors.jsonl").read_text() == ""


def test_a_server_that_is_away_is_one_line(vllmstack: Run, source: Path) -> None:
    done = vllmstack("batch", "run", "in.jsonl", "--url", "http://127.0.0.1:9", "--patience", "0")

    assert done.status == 1
    assert "vllmstack: no line was answered for 0 s; the last word was ConnectError: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.jsonl"], "none.jsonl: cannot be read: No such file or directory"),
        (["deployments"], "deployments: cannot be read: Is a directory"),
        (["empty.jsonl"], "empty.jsonl: asks nothing: it has no line"),
        (["in.jsonl", "--output", "none/out.jsonl"], "cannot write none/out.jsonl: No such file or directory"),
        (["in.jsonl", "--output", "deployments"], "cannot write deployments: Is a directory"),
        (["/dev/null"], "/dev/null: is no regular file"),
        (["in.jsonl", "--output", "/dev/null"], "/dev/null: is no regular file: answers could not be read again"),
        (["in.jsonl", "--output", "compose.yaml"], "compose.yaml: is there already, and is no batch's"),
        (["in.jsonl", "--errors", "in.jsonl", "--again"], "input, answers and errors are three files, and "),
        ([""], ".: is a folder"),
        (["."], ".: is a folder"),
        (["/"], "/: is a folder"),
        (["in.jsonl", "--url", "localhost:8000"], "--url localhost:8000: is no address"),
        (["in.jsonl", "--url", ""], "--url : is no address"),
        (["in.jsonl", "--url", "http://localhost:port"], "--url http://localhost:port: is no address: Invalid port"),
        (["in.jsonl", "--url", "http://127.0.0.1:80000"],
         "--url http://127.0.0.1:80000: is no address: there is no port 80000"),
        (["in.jsonl", "--url", "http://x", "--offline", "a/b"], "--offline and --url both say who answers"),
        (["in.jsonl", "--option", "seed=1"], "--option is of an engine of one's own"),
        (["in.jsonl", "--offline", "a/b", "--option", "seed"], "--option seed: is no NAME=VALUE"),
        (["in.jsonl", "--offline", "a/b", "--option", "max_modle_len=1"],
         "--option max_modle_len: vLLM 0.32.0 has no such option"),
        (["in.jsonl", "--offline", "a/b", "--option", "port=1"],
         "--option port: vllmstack sets this option itself"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line(
    vllmstack: Run, gateway: FakeGateway, source: Path, arguments: list[str], said: str
) -> None:
    source.with_name("empty.jsonl").touch()
    before = source.read_text()

    done = vllmstack("batch", "run", *arguments)

    assert done.status == 1
    assert f"vllmstack: {said}" in done.err
    assert "\n  hint: " in done.err
    assert "Traceback" not in done.err
    assert source.read_text() == before
    assert gateway.requests == []


class FakeServer:
    """What `start_server` gives: the gateway of the test, while the batch runs."""

    def __init__(self, url: str) -> None:
        self.base_url = f"{url}/v1"
        self.log = Path("vllm.log")
        self.end: StackError | None = None
        self.stopped = False

    def ended(self) -> StackError | None:
        return self.end

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True


def test_offline_the_batch_has_an_engine_of_its_own(
    vllmstack: Run, gateway: FakeGateway, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(clone.root / "in.jsonl", [request(1), request(2, body={"prompt": "Hello"})])
    made, started = FakeServer(gateway.url), list[dict[str, Any]]()

    def start(model: str, port: int, **options: Any) -> FakeServer:
        started.append({"model": model, "port": port, **options})
        return made

    monkeypatch.setattr(server, "start_server", start)

    done = vllmstack("batch", "run", "in.jsonl", "--offline", "models/smoke", "--model", "smoke",
                     "--option", "enforce-eager=true", "--option", "max_model_len=2048")  # fmt: skip

    assert done.status == 0
    (options,) = started
    key = options.pop("api_key")
    assert options == {"model": "models/smoke", "port": 0, "wait": True, "enforce_eager": True,
                       "max_model_len": 2048, "served_model_name": ["models/smoke", "smoke"]}  # fmt: skip
    assert {headers["authorization"] for _, headers, _ in gateway.requests} == {f"Bearer {key}"}
    assert {json.loads(body)["model"] for _, _, body in gateway.requests} == {"smoke"}
    assert made.stopped


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.rename(file.with_name("moved.jsonl")), "cannot be read: No such file or directory"),
        (lambda file: written(file, [request(1), request(2)]), "has changed since this command began"),
        (lambda file: os.utime(file, ns=(1, 1)), "has changed since this command began"),  # as an edit of a letter
    ],
)
def test_an_input_that_is_another_once_the_engine_answers_is_not_sent(
    vllmstack: Run,
    gateway: FakeGateway,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    change: Callable[[Path], object],
    said: str,
) -> None:
    def start(*_: object, **__: object) -> FakeServer:
        change(source)
        return FakeServer(gateway.url)

    monkeypatch.setattr(server, "start_server", start)

    done = vllmstack("batch", "run", "in.jsonl", "--offline", "models/smoke")

    assert done.status == 1
    assert f"vllmstack: in.jsonl: {said}" in done.err
    assert "Traceback" not in done.err
    assert gateway.requests == []


def test_offline_an_engine_that_ended_is_told_at_once(
    vllmstack: Run, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = FakeServer("http://127.0.0.1:9")
    made.end = StackError(Problem(fact="vLLM ended (exit 1):\n    CUDA error", hint="mend it"))
    monkeypatch.setattr(server, "start_server", lambda *_, **__: made)

    done = vllmstack("batch", "run", "in.jsonl", "--offline", "models/smoke")

    assert done.status == 1
    assert "vllmstack: vLLM ended (exit 1):\n    CUDA error\n  hint: mend it\n" in done.err
    assert made.stopped


@pytest.mark.parametrize(
    ("who", "hint"),
    [(["--offline", "models/smoke"], "look at vLLM's output, vllm.log"),
     (["--url", "http://127.0.0.1:9"], "look at what answers at http://127.0.0.1:9")],
)  # fmt: skip
def test_a_server_that_is_no_stacks_is_looked_for_where_it_is(
    vllmstack: Run, source: Path, monkeypatch: pytest.MonkeyPatch, who: list[str], hint: str
) -> None:
    monkeypatch.setattr(server, "start_server", lambda *_, **__: FakeServer("http://127.0.0.1:9"))

    done = vllmstack("batch", "run", "in.jsonl", "--patience", "0", *who)

    assert done.status == 1
    assert f"\n  hint: {hint}; the same command goes on where this one was\n" in done.err


def test_an_engine_that_does_not_start_is_told(vllmstack: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> FakeServer:
        raise StackError(Problem(fact="vLLM ended (exit 1) before it answered", hint="mend it"))

    monkeypatch.setattr(server, "start_server", start)

    done = vllmstack("batch", "run", "in.jsonl", "--offline", "models/smoke")

    assert done.status == 1
    assert "vllmstack: vLLM ended (exit 1) before it answered" in done.err


def test_where_there_is_no_terminal_a_line_now_and_then_tells_how_far_it_is(
    vllmstack: Run, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_progress, "LINE_SECONDS", 0.0)

    done = vllmstack("batch", "run", "in.jsonl")

    assert "• 5 of 5 lines, 0 of them failed, " in done.err


def test_a_terminal_has_a_bar(vllmstack: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(stderr=True, force_terminal=True, _environ={"TERM": "xterm", "COLUMNS": "80"})
    monkeypatch.setattr(batch_progress, "notes", terminal)

    done = vllmstack("batch", "run", "in.jsonl")

    assert "5/5" in done.err


def test_a_run_that_is_killed_goes_on(clone: Clone, gateway: FakeGateway, source: Path) -> None:
    written(source, [request(number) for number in range(1, 801)])
    answers = source.with_name("in.answers.jsonl")
    command = [sys.executable, "-m", "vllmstack", "batch", "run", "in.jsonl", "--concurrency", "4"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE)
    while process.poll() is None and not (answers.is_file() and answers.stat().st_size > 4_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    again = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    assert "of 800 lines are done already" in again.stderr
    assert sorted(one["id"] for one in documents(answers)) == sorted(f"batch_req_{n}" for n in range(1, 801))
    # The four that were on their way when it was killed may have been asked twice, and no other.
    assert len(gateway.requests) <= 804


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_ended_says_so_in_a_line_and_keeps_what_it_has(
    clone: Clone, source: Path, number: signal.Signals
) -> None:
    written(source, [request(number) for number in range(1, 5001)])
    answers = source.with_name("in.answers.jsonl")
    command = [sys.executable, "-m", "vllmstack", "batch", "run", "in.jsonl", "--concurrency", "4"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (answers.is_file() and answers.stat().st_size > 2_000):
        time.sleep(0.01)
    process.send_signal(number)

    said = process.communicate(timeout=30)[1]

    kept = len(documents(answers))
    assert process.returncode == 130
    assert said.split("\n") == [f"• {kept:,} answers in in.answers.jsonl", "", "", "vllmstack: interrupted", ""]
    assert 0 < kept < 5000


def test_ctrl_c_keeps_what_there_is(
    clone: Clone, source: Path, vllmstack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_send", interrupted)

    done = vllmstack("batch", "run", "in.jsonl")

    assert done.status == 130
    assert "• 0 answers in in.answers.jsonl" in done.err
