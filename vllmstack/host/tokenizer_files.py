"""The tokenizer of a model that is served from a directory, copied to where the load test's container sees it."""

from pathlib import Path

from vllmstack.planning.plan import Plan
from vllmstack.render.loadtest import STACK_FILE, tokenizer_folder

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
)


def tokenizer_files(plan: Plan) -> dict[str, str]:
    """Text by path, relative to ``.vllmstack/NAME/``, for ``write_rendered``: whole, and removed when it is gone.

    What is not there, or cannot be read, is left out: the engine needs none of it to be of these names, and a load test
    that misses its tokenizer says so.
    """
    files: dict[str, str] = {}
    first = {replica.model.name: replica for replica in reversed(plan.replicas)}
    for replica in first.values():
        source = replica.model.source.directory
        if source is None:
            continue
        folder = Path(STACK_FILE).parent / tokenizer_folder(replica)
        for name in FILES:
            text = _text(source / name)
            if text is not None:
                files[str(folder / name)] = text
    return files


def _text(file: Path) -> str | None:
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
