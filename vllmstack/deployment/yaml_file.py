"""A YAML file as plain Python values, with the mistakes that only the text shows: syntax and keys written twice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vllmstack.deployment.wording import kind
from vllmstack.errors import InvalidInput, Problem

LARGEST_BYTES = 1 << 20
"""A deployment file has a few KiB; what is larger is another kind of file."""


@dataclass(frozen=True)
class FileKind:
    """What the hints call a file of this kind."""

    noun: str
    folder: str
    begin: str
    """The keys that it begins with."""


DEPLOYMENT = FileKind("deployment", "deployments", "`name:` and `models:`")


def read_mapping(path: Path, file_kind: FileKind = DEPLOYMENT) -> tuple[dict[Any, Any], list[Problem]]:
    """The file's mapping, and a Problem for each key that is written twice (the last one counts, as YAML has it).

    Raises:
        InvalidInput: the file cannot be read, is no YAML, or holds something else than a mapping.
    """
    file = str(path)
    text = _text(path, file, file_kind)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise InvalidInput(
                Problem(
                    file=file, fact="is empty", hint=f"copy one of {file_kind.folder}/*.yaml and change what you need"
                )
            )
        problems = _repeated_keys(root, file)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise InvalidInput(_syntax(error, file, file_kind)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ReaderError (a character YAML forbids), a date that is none, or nesting without end.
        raise InvalidInput(
            Problem(file=file, fact=f"is not YAML: {_one_line(str(error))}", hint="save it as plain UTF-8 text")
        ) from error
    if not isinstance(data, dict):
        raise InvalidInput(
            Problem(
                file=file,
                fact=f"is {kind(data)}, where a mapping belongs",
                hint=f"begin with {file_kind.begin}, as {file_kind.folder}/*.yaml do",
            )
        )
    return data, problems


def _text(path: Path, file: str, file_kind: FileKind) -> str:
    a_file = f"a {file_kind.noun} file"
    if path.is_dir():
        raise InvalidInput(Problem(file=file, fact="is a folder", hint=f"name {a_file} in it"))
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InvalidInput(
                Problem(file=file, fact="is larger than 1 MiB", hint=f"name {a_file}; one has a few KiB")
            )
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidInput(
            Problem(file=file, fact="there is no such file", hint=f"`ls {file_kind.folder}` shows those that there are")
        ) from None
    except PermissionError:
        raise InvalidInput(
            Problem(file=file, fact="you may not read this file", hint=f"`chmod u+r {file}`, or run as its owner")
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            Problem(
                file=file,
                fact=f"is not UTF-8 text (byte {error.start + 1})",
                hint=f"name {a_file}, or save this one as UTF-8",
            )
        ) from None
    except OSError as error:
        raise InvalidInput(
            Problem(file=file, fact=f"cannot be read: {error.strerror}", hint="check the path and the disk")
        ) from None


def _syntax(error: yaml.MarkedYAMLError, file: str, file_kind: FileKind) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = _one_line(error.problem or error.context or "it cannot be understood").removeprefix("but ")
    return Problem(file=file, place=place, fact=f"is not YAML: {problem}", hint=_syntax_hint(problem, file_kind))


def _syntax_hint(problem: str, file_kind: FileKind) -> str:
    for part, hint in (
        ("'\\t'", "indent with spaces, not with tabs"),
        ("mapping values are not allowed", "put text that holds `: ` in quotes, and check the indentation above"),
        ("could not determine a constructor", "remove the tag: plain values are enough"),
        ("undefined alias", "define it with `&name` first, or put text that begins with * in quotes"),
        ("found another document", f"keep one {file_kind.noun} a file: remove what follows `---`"),
        ("found '<block", "check the indentation: keys of one mapping start in one column"),
        ("expected ',' or", "close the bracket, and put commas between what stands in it"),
        ("end of stream", "close the quote or bracket that is open"),
    ):
        if part in problem:
            return hint
    return "check the indentation, the colons and the quotes on this line and the one before"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _repeated_keys(root: yaml.Node, file: str) -> list[Problem]:
    problems: list[Problem] = []
    open_nodes: set[int] = set()

    def walk(node: yaml.Node, place: tuple[str, ...]) -> None:
        if id(node) in open_nodes:
            raise InvalidInput(
                Problem(
                    file=file, place="/".join(place), fact="holds itself", hint="write it out without the `*` alias"
                )
            )
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            first_line: dict[str, int] = {}
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
                line = key.start_mark.line + 1
                if name in first_line and name != "<<":
                    problems.append(
                        Problem(
                            file=file,
                            place="/".join((*place, name)),
                            fact=f"is written twice, on lines {first_line[name]} and {line}",
                            hint="keep one of the two",
                        )
                    )
                first_line.setdefault(name, line)
                walk(value, (*place, name))
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                walk(item, (*place, str(number)))
        open_nodes.remove(id(node))

    walk(root, ())
    return problems
