"""A hub of the test's own over real HTTP, a store below the test's folder, and huggingface_hub between them."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_server import HubServer, Repository, serving
from vllmstack.hub.download import Download, Hub, Progress
from vllmstack.hub.store import Store

MODEL = "org/tiny"


def weights(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


def tiny_model() -> dict[str, bytes]:
    """Two shards with their index, and what stands beside weights on the hub."""
    shards = {f"model-0000{number}-of-00002.safetensors": weights(number) for number in (1, 2)}
    index = {"weight_map": {f"layer.{number}": name for number, name in enumerate(shards)}}
    return {
        **shards,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "config.json": b'{"model_type": "llama"}',
        "generation_config.json": b"{}",
        "tokenizer.json": weights(3, 20_000),
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "modeling_tiny.py": b"print('hello')",
        "README.md": b"# tiny",
        "pytorch_model.bin": weights(4),
        "original/consolidated.00.pth": weights(5),
        "onnx/model.onnx": weights(6),
    }


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serving(HubServer(repositories={MODEL: Repository(files=tiny_model())})) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "hub-cache")


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub writes 10 MB at a time, and waits a second before it tries again."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    impatient = SimpleNamespace(sleep=lambda _: None, time=time.time)
    monkeypatch.setattr("huggingface_hub.file_download.time", impatient)
    monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)


def download(store: Store, hub: HubServer, token: str | None = None, progress: Progress | None = None) -> Download:
    return Download(store, Hub(endpoint=hub.url, token=token), lambda _: None, progress)
