"""A vLLM server of one's own: a process that ends with its owner, and says why if it ends before."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from vllmstack.deployment.serve_checks import OWNED, serve_problems
from vllmstack.errors import HostError, InvalidInput, Problem, StackError
from vllmstack.host.gateway_client import ON_THIS_HOST
from vllmstack.log_lines import telling
from vllmstack.render.engine_config import config_entry
from vllmstack.serving.engine import planned

GUARD = Path(__file__).with_name("guard.py")
MODULE = "vllm.entrypoints.openai.api_server"
"""Not `vllm serve`, which wants a distribution of just that name; a build for CPUs has another."""

LOG_LINES = 400
POLL_SECONDS = 0.25

_RUNNING: set["Server"] = set()
"""A server whose variable nobody kept must not end because of that."""


class Server:
    """A running server; leaving its ``with`` block, or the end of this process, ends it with all its processes."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, model: str, port: int, log: Path, api_key: str | None):
        """Made by :func:`start_server`."""
        self._process = process
        self.model = model
        self.port = port
        self.log = log
        """All that vLLM prints; it is kept."""
        self.api_key = api_key

    @property
    def base_url(self) -> str:
        """For ``query_server`` and every client of OpenAI's API."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def is_running(self) -> bool:
        """Whether its process is there; it may not answer yet."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else f"ended ({self._process.returncode})"
        return f"<Server {self.model} at {self.base_url}, {state}, log {self.log}>"

    def wait(self, seconds: float = 1800) -> Self:
        """Returns once it answers.

        Raises:
            StackError: it ended, with vLLM's own last lines, or does not answer in time; then it is stopped.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.is_running:
                raise self._end(" before it answered")
            if self._answers():
                return self
            time.sleep(POLL_SECONDS)
        last = self._last_lines()
        self.stop()
        raise StackError(
            Problem(fact=f"vLLM did not answer within {seconds:g} s, and was stopped:\n{last}", hint=self._hint())
        )

    def ended(self) -> StackError | None:
        """Why it is not there any more, with vLLM's own last lines; None while its process is there."""
        return None if self.is_running else self._end("")

    def stop(self) -> None:
        """Ends it: SIGTERM, after the grace that it was started with SIGKILL, and whatever it started. Returns then."""
        if self.is_running:
            # Beside closing its input, which a process that was forked meanwhile holds open too.
            self._process.terminate()
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        _RUNNING.discard(self)

    def _end(self, when: str) -> StackError:
        _RUNNING.discard(self)
        fact = f"vLLM ended (exit {self._process.returncode}){when}:\n{self._last_lines()}"
        return StackError(Problem(fact=fact, hint=self._hint()))

    def _answers(self) -> bool:
        try:
            answer = httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=5, **ON_THIS_HOST)
        except httpx2.HTTPError:
            return False
        return answer.status_code == httpx2.codes.OK and self.is_running

    def _last_lines(self) -> str:
        with self.log.open(errors="replace") as stream:
            return "\n".join(f"    {line}" for line in telling(list(deque(map(str.rstrip, stream), LOG_LINES))))

    def _hint(self) -> str:
        return f"mend the option that the lines name (the whole output: {self.log})"


def start_server(
    model: str,
    port: int = 8000,
    *,
    wait: bool | float = False,
    log: Path | None = None,
    api_key: str | None = None,
    environment: Mapping[str, str] | None = None,
    grace_seconds: float = 15,
    **kwargs: Any,
) -> Server:
    """VLLM's OpenAI-compatible server on 127.0.0.1, as a process of its own; returns at once.

    It ends when :meth:`Server.stop` is called, when its ``with`` block is left, and when this process ends, even by
    SIGKILL: a guard beside it ends vLLM and everything that vLLM started.

    Args:
        model: A model's folder, or its id on the hub; clients name it the same unless ``served_model_name`` is given.
        port: Where it answers; 0 takes a free one.
        wait: True: return only once it answers, within 30 minutes; a number: within so many seconds.
        log: File for its output, appended to; a new one in the folder of temporary files if left out.
        api_key: What clients must send; vLLM gets it by its environment, not on its command line.
        environment: Variables beside this process's own; the plan too looks at them (``CUDA_VISIBLE_DEVICES``).
        grace_seconds: What it has to end by itself before it is killed.
        **kwargs: Options of ``vllm serve``, with ``_``: ``max_model_len=4096``, ``enable_prefix_caching=False``. What
            decides memory and is left out, the plan chooses; see ``create_llm``.

    Raises:
        InvalidInput: the model is none or does not fit; an option is none or cannot have that value: each of them.
        HostError: vLLM is not installed, the port is taken, the log cannot be written.
        StackError: with ``wait``: it ended, with vLLM's own last lines, or does not answer in time.
    """
    problems = [Problem(fact=f"`{name}` is no option here", hint=_INSTEAD[name]) for name in _INSTEAD if name in kwargs]
    given = {name: value for name, value in kwargs.items() if value is not None}
    problems += serve_problems({name: value for name, value in given.items() if name not in OWNED})
    if problems:
        raise InvalidInput(problems)
    variables = {**os.environ, **(environment or {})}
    options = {"host": "127.0.0.1", **planned(model, given, variables)}
    port = _free_port(port)
    command = [sys.executable, "-m", MODULE, "--model", model, "--port", str(port), *arguments(options)]
    if api_key is not None:
        variables["VLLM_API_KEY"] = api_key
    guard = [sys.executable, "-I", str(GUARD), str(os.getpid()), f"{grace_seconds:g}", *command]
    try:
        if log is None:
            handle, name = tempfile.mkstemp(prefix=f"vllmstack-server-{port}-", suffix=".log")
            log = Path(name)
        else:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(handle, "ab") as stream:
            process = subprocess.Popen(
                guard, stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=variables, start_new_session=True
            )
    except OSError as error:
        fact = f"cannot start a server: {error.filename or log}: {error.strerror}"
        raise HostError(Problem(fact=fact, hint="give another `log=`, and look at `df -h`")) from None
    server = Server(process, model=model, port=port, log=log, api_key=api_key)
    _RUNNING.add(server)
    if wait is not False:
        try:
            server.wait(1800 if wait is True else wait)
        except BaseException:  # Ctrl-C too
            server.stop()
            raise
    return server


_INSTEAD = {
    "config": "write its options here",
    "hf_token": "set HF_TOKEN in the environment: every user of this machine can read a command line",
}


def arguments(options: Mapping[str, Any]) -> list[str]:
    """The command line of ``vllm serve`` for these options; None is left out."""
    found: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        for dashed, given in config_entry(name, value).items():
            found.append(f"--{dashed}")
            if given is True:
                continue
            values = given if isinstance(given, list) else [given]
            found += [json.dumps(one) if isinstance(one, dict) else str(one) for one in values]
    return found


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there is no such port"
            raise HostError(
                Problem(fact=f"port {port} cannot be used: {reason}", hint="give another, or port=0 for a free one")
            ) from None
        return int(probe.getsockname()[1])
