"""Which files of a repository vLLM needs, by their names. Reads nothing.

Sources: vLLM's default loader (model_executor/model_loader/default_loader.py and weight_utils.py: safetensors before
pickles, only the shards that the index names, `load_format: mistral` for consolidated*.safetensors), and what
transformers reads beside the weights.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from vllmstack.errors import InvalidInput, Problem
from vllmstack.hub.wishes import HubFile, Snapshot, Use, Wish
from vllmstack.plain_path import is_plain_path

INDEX = "model.safetensors.index.json"
MISTRAL_CONFIG = "params.json"
MISTRAL_WEIGHTS = "consolidated*.safetensors"
MISTRAL_INDEX = "consolidated.safetensors.index.json"
PICKLE_INDEX = "pytorch_model.bin.index.json"

TEXTS = (
    *("*.json", "*.jinja", "*.tiktoken", "tokenizer.model*", "*.model", "vocab.txt", "merges.txt"),
    *("chat_templates/*.jinja", "additional_chat_templates/*.jinja"),
    "[0-9]_*/config.json",  # the layers behind an embedding model (sentence-transformers), with modules.json
)
"""Configuration, tokenizer, chat templates, processors: small, and each of them read by some model."""
NOT_READ = ("*.index.json", MISTRAL_CONFIG, "trainer_state.json", "all_results.json", "*_results.json")
LAYERS = "[0-9]_*/*.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
NO_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.*", "rng_state*")


def index_of(files: Iterable[HubFile], wish: Wish) -> HubFile | None:
    """The file that names the shards, which has to be read before :func:`selected`; None: there is none to read."""
    there = {file.path: file for file in files}
    if wish.use in (Use.CONFIG, Use.ADAPTER):
        return None
    return there.get(MISTRAL_INDEX if _in_mistrals_format(there, wish) else INDEX)


def selected(files: Sequence[HubFile], wish: Wish, shards: Collection[str] | None = None) -> list[HubFile]:
    """The files that vLLM needs, sorted by path; ``shards`` are those that the index names.

    Raises:
        InvalidInput: the repository does not hold what is asked for, or only in a form that is refused.
    """
    there = {file.path: file for file in files}
    if outside := [path for path in there if not is_plain_path(path)]:
        raise _refused(wish, f"has a file outside its folder: {outside[0]!r}", "do not use this repository")
    names = {path for path in there if _is_text(path)} | _weights(there, wish, shards)
    if not names:
        raise _refused(wish, "has neither configuration nor tokenizer as vLLM reads them", "check the id")
    if MISTRAL_CONFIG in there and any(_at_the_root(path, MISTRAL_WEIGHTS) for path in there):
        names.add(MISTRAL_CONFIG)  # tells, in the lock too, that there are two formats to choose from
    if wish.code:
        names |= {path for path in there if path.endswith(".py")}
    return [there[name] for name in sorted(names)]


def wanted(files: Sequence[HubFile], wish: Wish) -> tuple[HubFile, ...]:
    """Of files that several wishes for one commit have chosen, those that this one needs."""
    there = {file.path for file in files}
    mistral = wish.mistral or _in_mistrals_format(there, wish)

    def is_wanted(path: str) -> bool:
        if path.endswith(".py"):
            return wish.code
        if _is_text(path) or path == MISTRAL_CONFIG:
            return True
        if path == PICKLE_INDEX or is_pickle(path):
            return wish.pickles and wish.use is not Use.CONFIG
        if wish.use is Use.MODEL:
            return path.startswith("consolidated") is mistral and not path.startswith("adapter_model")
        return wish.use is not Use.CONFIG

    return tuple(file for file in files if is_wanted(file.path))


def are_enough(files: Sequence[HubFile], wish: Wish) -> bool:
    """Whether files that were chosen once have all that is wished for: it may have been another wish then."""
    names = [file.path for file in wanted(files, wish)]
    has_code = not wish.code or any(name.endswith(".py") for name in names)
    has_weights = wish.use is Use.CONFIG or any(name.endswith(".safetensors") or is_pickle(name) for name in names)
    return bool(names) and has_code and has_weights


def answers(found: Snapshot, wish: Wish) -> bool:
    """Whether a snapshot that is whole has all that is wished for, as it is locked."""
    digests = {file.path: file.digest for file in found.files}
    as_locked = all(digests.get(file.path) == file.digest for file in wish.files)
    # Code was asked for, and the repository has none: there is nothing to wait for.
    without_code = replace(wish, code=False)
    return as_locked and (found.code or not wish.code) and are_enough(found.files, without_code)


def is_pickle(path: str) -> bool:
    """Whether a file is of weights that run code when they are loaded."""
    is_one = any(_at_the_root(path, pattern) for pattern in PICKLES)
    return is_one and not any(fnmatchcase(path, pattern) for pattern in NO_WEIGHTS)


def _weights(there: dict[str, HubFile], wish: Wish, shards: Collection[str] | None) -> set[str]:
    if wish.use is Use.CONFIG:
        return set()
    is_adapter = "adapter_config.json" in there and "config.json" not in there
    if wish.use is Use.ADAPTER or (wish.use is Use.ANY and is_adapter):
        return _adapter(there, wish)
    if _in_mistrals_format(there, wish):
        return {MISTRAL_CONFIG} | _indexed(there, wish, MISTRAL_INDEX, shards, MISTRAL_WEIGHTS)
    if "config.json" not in there:
        what = "holds a LoRA adapter, no model" if is_adapter else "has no config.json, so it holds no model"
        hint = "name it under `serve/lora_modules`" if is_adapter else "check the id; GGUF files alone are not served"
        raise _refused(wish, what, hint)
    found = _indexed(there, wish, INDEX, shards, "*.safetensors")
    return found | {path for path in there if fnmatchcase(path, LAYERS)} if found else _pickles(there, wish)


def _adapter(there: dict[str, HubFile], wish: Wish) -> set[str]:
    if "adapter_config.json" not in there:
        raise _refused(wish, "has no adapter_config.json, so it holds no LoRA adapter", "check the id")
    return {path for path in there if _at_the_root(path, "*.safetensors")} or _pickles(there, wish)


def _indexed(
    there: dict[str, HubFile], wish: Wish, index: str, shards: Collection[str] | None, pattern: str
) -> set[str]:
    """The shards of an index with the index itself, or, without one, every file of the pattern."""
    if index not in there:
        return {
            path
            for path in there
            if _at_the_root(path, pattern)
            and not fnmatchcase(path, "adapter_model*")
            and (pattern.startswith("consolidated") or not fnmatchcase(path, "consolidated*"))
        }
    missing = sorted(set(shards or ()) - there.keys())
    if missing or not shards:
        fact = f"{index} names {missing[0]}, which is not there" if missing else f"{index} names no file"
        raise _refused(wish, fact, "its upload is not complete: take another revision")
    return {index, *shards}


def _pickles(there: dict[str, HubFile], wish: Wish) -> set[str]:
    """Only where there is no safetensors, and only if somebody asked for them."""
    found = sorted(path for path in there if is_pickle(path))
    if not found:
        kinds = "GGUF alone" if any(path.endswith(".gguf") for path in there) else "none that vLLM reads"
        raise _refused(wish, f"has no weights as safetensors ({kinds})", "choose a repository that has safetensors")
    if not wish.pickles:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise _refused(
            wish,
            f"has its weights only as pickles ({found[0]}{more}), which run code when they are loaded",
            f"choose a repository with safetensors; if you trust this one: "
            f"`vllmstack models pull {wish.hub} --allow-pickle`",
        )
    # vLLM reads *.bin before *.pt, and nothing else of them.
    of_a_kind = [path for path in found if path.endswith(".bin")] or [path for path in found if path.endswith(".pt")]
    if not of_a_kind:
        raise _refused(
            wish, f"has weights that vLLM does not read ({found[0]})", "choose a repository with safetensors"
        )
    return {*of_a_kind, *({PICKLE_INDEX} & there.keys())}


def _in_mistrals_format(there: Iterable[str], wish: Wish) -> bool:
    there = set(there)
    return MISTRAL_CONFIG in there and (wish.mistral or "config.json" not in there)


def _is_text(path: str) -> bool:
    depth = path.count("/")
    wanted = any(fnmatchcase(path, pattern) and pattern.count("/") == depth for pattern in TEXTS)
    return wanted and not any(fnmatchcase(path, pattern) for pattern in NOT_READ)


def _at_the_root(path: str, pattern: str) -> bool:
    return "/" not in path and fnmatchcase(path, pattern)


def _refused(wish: Wish, fact: str, hint: str) -> InvalidInput:
    return InvalidInput(Problem(file=wish.hub, fact=fact, hint=hint))
