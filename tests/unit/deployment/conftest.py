"""A folder with one valid deployment file and everything that it, or a broken copy of it, may name."""

import shutil
import subprocess
from pathlib import Path

import pytest

GOOD = """\
name: good
description: For tests
models:
  - name: llama-2
    aliases: [llama]
    source: {hub: meta/llama}
    replicas: 2
    serve:
      max_model_len: 4096
    environment:
      VLLM_LOGGING_LEVEL: INFO
    targets:
      - load: {concurrency: 10}
        ttft_seconds: {p50: 0.1, p95: 0.2}
  - name: qwen
    source: {directory: model}
    gpus: [[7]]
gateway:
  port: 8000
gpu:
  type: L40S
images: {grafana: "grafana/grafana:12.2.0"}
"""


@pytest.fixture
def good() -> str:
    """The text of the valid file."""
    return GOOD


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory for one test; files are named relative to it, as a user would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "keys").write_text(f'{{"keys": [{{"name": "alice", "sha256": "{"0" * 64}"}}]}}')
    (tmp_path / "bad-keys").write_text('{"keys": [{"name": "alice"}]}')
    (tmp_path / "old-keys").write_text("# who may ask\nalice hunter2hunter2\n")
    return tmp_path


@pytest.fixture
def tls_files(folder: Path) -> Path:
    """``cert.pem`` with its ``key.pem``, and ``other-key.pem`` that belongs to neither."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, and the certificates of this test are made with it")
    for name in ("", "other-"):
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", f"{name}key.pem", "-out", f"{name}cert.pem", "-subj", "/CN=test", "-days", "1"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder
