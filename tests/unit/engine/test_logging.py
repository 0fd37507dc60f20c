"""The engines' logging.json: what it lets through, and that the readers of the logs know its fields."""

import json
import subprocess
import sys
from pathlib import Path

from vllmstack import log_lines

FILE = Path(__file__).parents[3] / "docker/engine/logging.json"

PROGRAM = """
import json, logging, logging.config, sys

config = json.load(open(sys.argv[1]))
config["formatters"]["json"] = {"format": "%(name)s %(message)s"}  # python-json-logger is in the engines' images
logging.config.dictConfig(config)
# uvicorn sets this level again when it starts.
logging.getLogger("uvicorn.access").setLevel("INFO")
logging.getLogger("vllm.v1.engine.async_llm").info("Added request a")
logging.getLogger("vllm.entrypoints.serve.utils.request_logger").info("Received request a: params: SamplingParams()")
logging.getLogger("vllm.entrypoints.serve.utils.request_logger").warning("No request information will be logged")
logging.getLogger("uvicorn.error").info("Application startup complete.")
logging.getLogger("uvicorn.access").info("GET /health")
print(logging.getLogger("uvicorn.access").hasHandlers())
"""


def test_a_requests_id_is_logged_and_neither_its_parameters_nor_health_checks() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, FILE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "vllm.v1.engine.async_llm Added request a",
        "uvicorn.error Application startup complete.",
        "False",  # uvicorn asks for that, and spares itself the work
    ]


def test_every_field_has_its_place_in_the_text_for_people() -> None:
    formatter = json.loads(FILE.read_text())["formatters"]["json"]
    renamed = formatter["rename_fields"]
    fields = [name.split(")")[0] for name in formatter["fmt"].split("%(")[1:]]
    names = [renamed.get(name, name) for name in fields] + [formatter["timestamp"]]
    line = json.dumps(dict.fromkeys(names, "x") | {"level": "INFO", "pid": 7, "line": 3})

    assert log_lines.plain(line) == "(x pid=7) INFO x [x:3] x"
