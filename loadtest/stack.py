"""``stack.json``: what a load test must know of the stack that it measures; rendered from the deployment."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from loadtest.errors import LoadTestError
from vllmstack.deployment.model import Target
from vllmstack.errors import Problem


class Part(BaseModel):
    """Base of every part."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Engine(Part):
    """One replica."""

    name: str
    metrics: str
    """URL of its /metrics, inside the engines' network."""


class TokenizerSource(Part):
    """Where the model's own tokenizer is: just one of the two."""

    directory: str | None = None
    """Holds tokenizer.json and, for chat, tokenizer_config.json or chat_template.jinja; relative to stack.json."""
    hub: str | None = None
    """Hugging Face id, in the cache that the engines filled."""
    revision: str | None = None


class ServedModel(Part):
    """One model of the deployment."""

    name: str
    aliases: tuple[str, ...] = ()
    max_model_len: int | None = None
    tokenizer: TokenizerSource = TokenizerSource()
    engines: tuple[Engine, ...] = ()
    targets: tuple[Target, ...] = ()
    options: dict[str, Any] = {}
    gpu: str | None = None
    gpus_per_replica: int = 0
    weights_bytes: float | None = None
    """What each step of decoding reads of one replica's weights, at least, all its GPUs together: not the embedding's
    table, and of a mixture of experts those of one token. None where the plan does not judge it."""
    memory_bytes_per_second: float | None = None
    """Of one replica's GPUs together."""


class StackFacts(Part):
    """The whole stack."""

    deployment: str
    url: str
    """Base URL of the gateway, without /v1."""
    vllm: str = ""
    models: tuple[ServedModel, ...]

    def model(self, name: str | None) -> ServedModel:
        """By name or alias; None: the first.

        Raises:
            LoadTestError: the deployment has no such model.
        """
        if name is None:
            return self.models[0]
        for model in self.models:
            if name == model.name or name in model.aliases:
                return model
        known = ", ".join(model.name for model in self.models)
        raise LoadTestError(
            Problem(place="--model", fact=f"the deployment has no model {name!r}", hint=f"it has: {known}")
        )


def load_stack(file: Path) -> StackFacts:
    """Reads ``stack.json``.

    Raises:
        LoadTestError: it is not there or not of this version.
    """
    try:
        return StackFacts.model_validate_json(file.read_text())
    except OSError as error:
        raise LoadTestError(
            Problem(file=str(file), fact=f"cannot be read: {error.strerror}", hint="run `vllmstack up` first")
        ) from error
    except ValueError as error:
        raise LoadTestError(
            Problem(file=str(file), fact="is not of this version", hint="run `vllmstack up` again")
        ) from error
