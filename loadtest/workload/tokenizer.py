"""The model's own tokenizer, so that prompts have the length that vLLM will count.

vLLM tokenizes completions and embeddings with the special tokens that the tokenizer adds (add_special_tokens=True) and
chats without them, because the chat template writes them itself.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from loadtest.errors import LoadTestError
from loadtest.stack import TokenizerSource
from loadtest.workload.chat_template import ChatTemplate, Message
from loadtest.workload.model_files import find_templates, read_object
from vllmstack.errors import Problem
from vllmstack.host.model_files import cached_snapshot

FILE = "tokenizer.json"
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Tokenizer:
    """Counts tokens as the engine does."""

    def __init__(self, backend: Backend, templates: Mapping[str, ChatTemplate], *, name: str) -> None:
        """``templates`` by name: ``default``, and ``tool_use`` where the model has one of its own for tools."""
        self.backend = backend
        self.name = name
        """Where it came from, for messages."""
        self._templates = dict(templates)

    @property
    def has_chat_template(self) -> bool:
        return bool(self._templates)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids; ``special``: with those that the tokenizer adds by itself (completions, embeddings)."""
        ids: list[int] = self._encoded(text, special=special).ids
        return ids

    def _encoded(self, text: str, *, special: bool) -> Encoding:
        """Of the library's ways, the one without offsets, which takes a third less time and lets other threads run."""
        encoding: Encoding = self.backend.encode_batch_fast([text], add_special_tokens=special)[0]
        return encoding

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; special tokens are left out."""
        text: str = self.backend.decode(list(tokens), skip_special_tokens=True)
        return text

    def count(self, text: str) -> int:
        """Tokens of a completion's or an embedding's prompt, as in ``usage.prompt_tokens``."""
        return len(self._encoded(text, special=True))

    def count_chat(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> int:
        """Tokens of a chat's prompt, the template's own included, as in ``usage.prompt_tokens``.

        Raises:
            LoadTestError: there is no chat template, or it refuses these messages.
        """
        return len(self._encoded(self.render_chat(messages, tools), special=False))

    def render_chat(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The text that the chat template makes of a chat.

        Raises:
            LoadTestError: there is no chat template, or it refuses these messages.
        """
        template = self._templates.get("tool_use") if tools else None
        template = template or self._templates.get("default") or next(iter(self._templates.values()), None)
        if template is None:
            raise LoadTestError(
                Problem(
                    file=self.name,
                    fact="the model has no chat template",
                    hint="use a scenario of completions, or give the engine and the load test a chat template",
                )
            )
        return template.render(messages, tools)


def load_tokenizer(
    source: TokenizerSource, *, relative_to: Path, options: Mapping[str, Any] | None = None
) -> Tokenizer:
    """The tokenizer in a model's directory, or in the hub's cache on this machine: nothing is downloaded.

    ``options`` are the model's vLLM options: ``chat_template`` and ``default_chat_template_kwargs`` change what is
    counted.

    Raises:
        LoadTestError: there is none here, or its files cannot be used.
    """
    # Texts are encoded one at a time: the library's pool of threads would only be in the way of forked workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = _folder(source, relative_to)
    file = folder / FILE
    if not file.is_file():
        raise LoadTestError(_missing(source, folder))
    try:
        backend = Backend.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        reason = " ".join(str(error).split())
        raise LoadTestError(
            Problem(file=str(file), fact=f"is no tokenizer: {reason}", hint="copy the model's own file again")
        ) from error
    settings = read_object(folder / "tokenizer_config.json")
    # What a sentence-transformers file cuts or fills up is counted whole by the engine.
    backend.no_truncation()
    backend.no_padding()
    special = _special_tokens(settings, read_object(folder / "special_tokens_map.json"))
    _as_transformers_has_it(backend, settings, special)
    return Tokenizer(backend, find_templates(folder, settings, special, options or {}), name=str(folder))


def _folder(source: TokenizerSource, relative_to: Path) -> Path:
    if source.directory is not None:
        return relative_to / source.directory
    if source.hub is not None:
        return cached_snapshot(source.hub, source.revision)
    raise LoadTestError(
        Problem(fact="it is not known where the model's tokenizer is", hint="give its folder by --tokenizer")
    )


def _missing(source: TokenizerSource, folder: Path) -> Problem:
    if (
        (folder / "tokenizer.model").is_file()
        or (folder / "tekken.json").is_file()
        or (folder / "vocab.json").is_file()
    ):
        return Problem(
            file=str(folder),
            fact=f"holds a tokenizer, but not as {FILE}",
            hint="write one with transformers, AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER), "
            "and give its folder by --tokenizer",
        )
    if source.hub is not None:
        return Problem(
            fact=f"the tokenizer of {source.hub} is not in the hub's cache ({folder / FILE})",
            hint="`make up` downloads it with the model; or give a folder that holds tokenizer.json by --tokenizer",
        )
    return Problem(
        file=str(folder),
        fact=f"holds no {FILE}",
        hint="copy the model's tokenizer.json and tokenizer_config.json there",
    )


def _special_tokens(*files: Mapping[str, Any]) -> dict[str, str]:
    """``bos_token`` and the like; the first file that names one counts."""
    found: dict[str, str] = {}
    for file in files:
        for name in (*_NAMED_TOKENS, *(name for name in file if name.endswith("_token"))):
            value = file.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found.setdefault(name, text)
    return found


def _as_transformers_has_it(backend: Backend, settings: Mapping[str, Any], special: Mapping[str, str]) -> None:
    """Two things that transformers 5, which the engine loads tokenizers with, changes after reading tokenizer.json.

    ``add_bos_token`` and ``add_eos_token`` in tokenizer_config.json replace the post-processor
    (``TokenizersBackend.update_post_processor``), and a ``LlamaTokenizer`` has no normalizer but a Metaspace
    pre-tokenizer, which marks the beginning of the text, or of each part between special tokens if it is ``legacy``.
    """
    # A wrong file may name a token that is not in the vocabulary: transformers would add it, the model not know it.
    known = {name: text for name, text in special.items() if backend.token_to_id(text) is not None}
    if "add_bos_token" in settings or "add_eos_token" in settings:
        before = known.get("bos_token") if settings.get("add_bos_token") else None
        after = known.get("eos_token") if settings.get("add_eos_token") else None
        single = [*([before] if before else []), "$A", *([after] if after else [])]
        backend.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[(text, backend.token_to_id(text)) for text in {before, after} if text]
        )
    is_llama = str(settings.get("tokenizer_class", "")).startswith("LlamaTokenizer")
    if is_llama and getattr(backend.model, "byte_fallback", False):
        scheme = "first"
        if settings.get("add_prefix_space") is False:
            scheme = "never"
        elif settings.get("legacy", False):
            scheme = "always"
        backend.normalizer = None
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
