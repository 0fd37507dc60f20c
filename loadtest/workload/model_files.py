"""Files beside a model's tokenizer: its settings and its chat templates, wherever transformers looks for them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError
from loadtest.workload.chat_template import ChatTemplate
from vllmstack.errors import Problem


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file or it holds something else.

    Raises:
        LoadTestError: the file is no JSON, or may not be read.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadTestError(
            Problem(file=str(file), fact=f"cannot be read: {error}", hint="copy the model's own file again")
        ) from error
    return content if isinstance(content, dict) else {}


def find_templates(
    folder: Path, settings: Mapping[str, Any], special: Mapping[str, str], options: Mapping[str, Any]
) -> dict[str, ChatTemplate]:
    """Chat templates by name, ``default`` first of all; empty if the model has none.

    ``settings`` is tokenizer_config.json. A template in a file of its own comes before the one there, as in
    transformers; vLLM's option ``chat_template`` before both.

    Raises:
        LoadTestError: one is no Jinja, or the option's file is not here.
    """
    variables = {**special, **_arguments(options)}
    if options.get("chat_template"):
        text, name = _of_option(str(options["chat_template"]))
        return {"default": ChatTemplate(text, variables=variables, file=name)}
    sources: dict[str, tuple[str, Path]] = {}
    config = folder / "tokenizer_config.json"
    written = settings.get("chat_template")
    if isinstance(written, str):
        sources["default"] = (written, config)
    elif isinstance(written, list):
        sources |= {
            str(one.get("name")): (str(one.get("template")), config) for one in written if isinstance(one, dict)
        }
    of_processor = folder / "chat_template.json"
    if isinstance(template := read_object(of_processor).get("chat_template"), str):
        sources["default"] = (template, of_processor)
    for file in (folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))):
        if file.is_file():
            sources["default" if file.parent == folder else file.stem] = (file.read_text("utf-8"), file)
    return {name: ChatTemplate(text, variables=variables, file=str(file)) for name, (text, file) in sources.items()}


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """``default_chat_template_kwargs``, a mapping or its JSON; vLLM itself refuses what is neither."""
    given = options.get("default_chat_template_kwargs") or {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return {}
    return dict(given) if isinstance(given, Mapping) else {}


def _of_option(option: str) -> tuple[str, str]:
    """A template and its name: vLLM's option is a path, or the template itself."""
    if "{" in option or "\n" in option:
        return option, "serve/chat_template"
    try:
        return Path(option).read_text("utf-8"), option
    except OSError as error:
        raise LoadTestError(
            Problem(
                place="serve/chat_template",
                fact=f"{option} cannot be read here: {error.strerror}",
                hint="give a folder with tokenizer.json and this template as chat_template.jinja by --tokenizer",
            )
        ) from error
