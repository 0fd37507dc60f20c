"""Entry point of ``dashboards/*.json``: ``python grafana/dashboards.py`` writes them from ``source/``.

A test compares the committed files with what the source makes.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grafana.source.engine import engine
from grafana.source.gateway import gateway
from grafana.source.gpu_host import gpu_host
from grafana.source.load_test import load_test
from grafana.source.model import model
from grafana.source.stack import stack

OUTPUT = Path(__file__).parent / "dashboards"

DASHBOARDS = {
    "stack.json": stack,
    "model.json": model,
    "engine.json": engine,
    "gateway.json": gateway,
    "gpu-and-host.json": gpu_host,
    "load-test.json": load_test,
}


def render(board: Dashboard) -> str:
    """The committed text: panels are numbered in their order, since the SDK leaves that to Grafana."""
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    document = json.loads(json.dumps(board, cls=JSONEncoder))
    # The SDK puts links and annotations into a menu; where they are seen is better.
    for entry in [*document["links"], *document["annotations"]["list"]]:
        del entry["placement"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def main(output: Path = OUTPUT) -> None:
    for name, make in DASHBOARDS.items():
        (output / name).write_text(render(make().build()))
        sys.stdout.write(f"{output / name}\n")


if __name__ == "__main__":
    main()
