"""A clone to run commands in, with the machine's edges replaced: programs on PATH, the Docker daemon, the gateway."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_docker import FakeDocker
from vllmstack import cli, console
from vllmstack.planning.inventory import Inventory
from vllmstack.project import Project

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
OPENSSL = shutil.which("openssl")

SMOKE = """\
name: smoke
description: For tests
models:
  - name: smoke
    source: {directory: ../models/smoke}
    engine: vllm-cpu
    replicas: 2
    memory_gib: 4
    environment: {VLLM_CPU_KVCACHE_SPACE: "1"}
    serve: {enforce_eager: true, dtype: float32, max_model_len: 256}
"""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "torch_dtype": "float32",
    "vocab_size": 512,
}
KEY = "sk-0123456789abcdef0123456789abcdef"

DOCKER_THAT_WORKS = """\
case "$*" in
  "version --format {{.Server.Version}}" | "version --format {{.Client.Version}}") echo 26.1.5+dfsg1 ;;
  "compose version --short") echo 2.40.3-3 ;;
  "buildx version") echo "github.com/docker/buildx 0.29.1 0.29.1-1" ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The only folder of PATH: a test puts shell scripts there, and asks what they were called with."""

    folder: Path

    def install(self, name: str, script: str = "") -> None:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{self.folder}/{name}.calls'\n{script}")
        program.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """The command lines so far, without the program's own name."""
        record = self.folder / f"{name}.calls"
        return record.read_text().splitlines() if record.is_file() else []


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of the command line gave."""

    status: int
    out: str
    err: str


@dataclass(kw_only=True)
class FakeGateway:
    """An HTTP server on the loopback address; ``answers`` says what each path gives."""

    url: str = ""
    answers: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Status, content type and body by path."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer, beside those that its body needs."""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers (names in lower case) and body."""

    def answer(self, path: str, body: str, *, status: int = 200, kind: str = "application/json") -> None:
        self.answers[path] = (status, kind, body)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length", 0))
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.requests.append((request.path, headers, request.rfile.read(length)))
        status, kind, body = self.answers.get(request.path, (404, "text/plain", "not here"))
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body.encode())))
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body.encode())

    def server(self, port: int = 0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> ThreadingHTTPServer:
        """A server that answers from now on; its maker shuts it down."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gateway.handle(self)

            def do_POST(self) -> None:
                gateway.handle(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was ended is not this server's error, and its traceback would be some later test's."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        server = Server((host, port), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"http://{host}:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A clone of vllmstack in a folder of its own; the working directory."""

    project: Project

    @property
    def root(self) -> Path:
        return self.project.root

    def deployment(self, text: str = SMOKE, *, name: str = "smoke") -> Path:
        file = self.project.deployments / f"{name}.yaml"
        file.write_text(text)
        return file

    def is_up(self, url: str = "http://127.0.0.1:8000", *, name: str = "smoke") -> None:
        """Leaves what `up` leaves, as far as the other commands read it."""
        folder = self.project.rendered(name)
        folder.mkdir(parents=True)
        (folder / "compose.env").write_text(f"VLLMSTACK_STATE='.vllmstack/{name}'\nVLLMSTACK_URL='{url}'\n")
        self.project.current.symlink_to(name)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    root = tmp_path / "clone"
    for name in ("compose.yaml", "docker/images.yaml", "prometheus/alertmanager.yml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    model = root / "models" / "smoke"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    made = Clone(project=Project(root=root))
    made.project.deployments.mkdir()
    made.deployment()
    monkeypatch.chdir(root)
    return made


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables, and nothing of the home, of whoever runs the tests."""
    for name in ("COMPOSE_PROJECT_NAME", "DEPLOYMENT", "DOCKER_HOST", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "SSL_CERT_FILE", "PIP_CERT", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def inventory(monkeypatch: pytest.MonkeyPatch) -> Inventory:
    """A machine without a GPU, whichever one runs the tests."""
    machine = Inventory(memory_bytes=64 * GIB, core_ids=(0, 1))
    monkeypatch.setattr("vllmstack.commands.preparation.see_inventory", lambda: machine)
    return machine


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    made = Programs(folder=folder)
    made.install("docker", DOCKER_THAT_WORKS)
    return made


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """What `docker.from_env` connects to."""
    made = FakeDocker(tmp_path)

    def connect(**options: Any) -> FakeDocker:
        return made

    monkeypatch.setattr("docker.from_env", connect)
    return made


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    made = FakeGateway()
    server = made.server()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def vllmstack(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs the command line; tables are 100 columns wide."""
    monkeypatch.setattr(console.out, "width", 100)

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = cli.main(list(arguments))
        said = capsys.readouterr()
        return Outcome(status=status, out=said.out, err=said.err)

    return run


@pytest.fixture
def certificate(clone: Clone) -> Clone:
    """The clone with ``deployments/cert.pem`` and ``deployments/key.pem``, for 127.0.0.1."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed, and the certificate of this test is made with it")
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=127.0.0.1", "-days", "1"]
    subprocess.run(command, cwd=clone.project.deployments, check=True, capture_output=True)
    return clone
