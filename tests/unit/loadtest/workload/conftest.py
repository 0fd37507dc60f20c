"""Tokenizers, each made once, and what workloads are made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.stack import ServedModel, TokenizerSource
from loadtest.workload.prompts import Prompts
from loadtest.workload.scenario import Scenario
from loadtest.workload.tokenizer import Tokenizer, load_tokenizer
from loadtest.workload.workload import Workload
from tests.unit.loadtest.workload.tokenizer_files import KINDS, SMOKE


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    """``smoke``, or one of ``KINDS``."""
    made: dict[str, Tokenizer] = {}

    def tokenizer(kind: str) -> Tokenizer:
        if kind not in made:
            folder = SMOKE if kind == "smoke" else KINDS[kind](tmp_path_factory.mktemp("models") / kind)
            made[kind] = load_tokenizer(TokenizerSource(directory=str(folder)), relative_to=Path("/"))
        return made[kind]

    return tokenizer


@pytest.fixture(scope="session")
def smoke(tokenizers: Callable[[str], Tokenizer]) -> Tokenizer:
    """The tokenizer of the model that this repository ships."""
    return tokenizers("smoke")


@pytest.fixture(scope="session")
def prompts(smoke: Tokenizer) -> Prompts:
    """Writes for the smoke model."""
    return Prompts(smoke)


@pytest.fixture
def workload(smoke: Tokenizer) -> Callable[..., Workload]:
    """A workload for the smoke model; ``parameters`` are the scenario's own keys."""

    def made(
        *,
        seed: int = 0,
        salt: str = "",
        max_model_len: int | None = 2048,
        options: dict[str, Any] | None = None,
        **parameters: object,
    ) -> Workload:
        given = {"name": "test", "prompt_tokens": "60-120", "completion_tokens": 32, **parameters}
        scenario = Scenario.model_validate({key: value for key, value in given.items() if value is not None})
        model = ServedModel(name="smoke", max_model_len=max_model_len, options=options or {})
        return Workload(scenario, model=model, tokenizer=smoke, seed=seed, salt=salt)

    return made
