"""The planner's simulator against runs on a GPU: calibrated on two of them, held against all others.

    python scripts/bench_prediction.py [--calibrate] [--runs DIR …] [--json FILE] [--plot FILE] [--page]

Each run of DIR (`measure_prediction.py` makes them) is simulated request by request, with the lengths that were sent.
Asked: throughput and median TPOT within 15 %, p95 of TTFT within 30 %. `--calibrate` fits the constants of
vllmstack/prediction/efficiency.yaml to the two runs and prints them; without it, those that are there are taken.
`--page` writes the table of runs in docs/reference/prediction.md.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from vllmstack.planning.dimensions import public_models
from vllmstack.planning.engine_options import read_options, release_of
from vllmstack.planning.gpus import gpu_types
from vllmstack.prediction.design import Design
from vllmstack.prediction.efficiency import Efficiency, calibration
from vllmstack.simulation.service import Lengths, Outcome, serve_users

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs/reference/results"
RUNS = tuple(RECORDS / f"2026-11-22-h200-prediction{which}" for which in ("", "-unseen", "-held-out"))
CALIBRATED_ON = (("llama-3.1-8b", "documents", 8), ("llama-3.1-8b", "chat", 256))
USERS = (1, 8, 32, 96, 256)
PAGE = ROOT / "docs/reference/prediction.md"
COLUMNS = "| model | mix | users | tokens/s | predicted | TPOT | predicted | TTFT p95 | predicted | |"
MOST = {"throughput": 0.15, "tpot": 0.15, "ttft_p95": 0.30}

# What the calibration begins with, in one or two digits, and how far (as a factor's logarithm) it lets go of it.
PRIORS: dict[str, tuple[float, float]] = {
    "weights_ratio": (0.9, 0.05),
    "cache_ratio": (0.85, 0.1),
    "flops_ratio": (0.7, 0.1),
    "attention_ratio": (0.35, 0.3),
    "step_seconds": (0.5e-3, 0.5),
    "layer_seconds": (35e-6, 0.3),
    "sequence_seconds": (10e-6, 0.5),
    "host_step_seconds": (1.8e-3, 0.4),
    "host_sequence_seconds": (20e-6, 0.5),
    "host_prefill_layer_seconds": (100e-6, 0.5),
    "host_eager_layer_seconds": (0.6e-3, 0.3),
    "request_seconds": (1.5e-3, 0.3),
    "prompt_token_seconds": (5e-6, 0.3),
    "token_seconds": (25e-6, 0.3),
    "chunk_seconds": (35e-6, 0.3),
    "latency_seconds": (10e-3, 0.3),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run on the GPU."""

    model: str
    hub: str
    options: dict[str, Any]
    blocks: int
    run: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.model, self.run["mix"], self.run["concurrency"]


def load_runs(*folders: Path) -> list[Measured]:
    """Of all models of the folders."""
    found = []
    for file in sorted(file for folder in folders for file in folder.glob("*.json")):
        document = json.loads(file.read_text())
        for run in document.get("runs", ()):
            found.append(
                Measured(
                    model=document["model"], hub=document["hub"], options=document["options"],
                    blocks=document["kv_cache_tokens"] // 16, run=run,
                )
            )  # fmt: skip
    return found


def simulate(one: Measured, efficiency: Efficiency) -> Outcome:
    """The same requests, simulated; with the blocks that vLLM had, so that only times are predicted."""
    design = Design(
        model=public_models()[one.hub], gpu=gpu_types()["H200"], release=release_of(None, "0.26.0"),
        options=read_options({key: value for key, value in one.options.items() if key != "load_format"}),
    )  # fmt: skip
    profile = replace(design.profile(efficiency), blocks=one.blocks)
    return serve_users([Lengths(*pair) for pair in one.run["lengths"]], one.run["concurrency"], profile)


def errors(one: Measured, outcome: Outcome) -> dict[str, float]:
    """Predicted ÷ measured, less one."""
    run = one.run
    tpot = sorted(value for value in outcome.tpot if value >= 0)
    ttft = sorted(outcome.ttft)
    tokens = sum(outcome.completion_tokens)
    return {
        "throughput": tokens / outcome.seconds / run["output_tokens_per_second"] - 1,
        "tpot": tpot[len(tpot) // 2] / run["tpot_p50_seconds"] - 1,
        "ttft_p50": ttft[len(ttft) // 2] / run["ttft_p50_seconds"] - 1,
        "ttft_p95": ttft[min(len(ttft) - 1, int(len(ttft) * 0.95))] / run["ttft_p95_seconds"] - 1,
    }


def compare(one: Measured, efficiency: Efficiency) -> dict[str, Any]:
    """One run and what is predicted of it; ``missed``: figures further off than asked, unless it calibrates."""
    outcome = simulate(one, efficiency)
    off = errors(one, outcome)
    calibrated = one.key in CALIBRATED_ON
    return {
        "model": one.model, "mix": one.run["mix"], "concurrency": one.run["concurrency"],
        "calibration": calibrated, "errors": off,
        "missed": [name for name, most in MOST.items() if abs(off[name]) > most and not calibrated],
        "measured": {name: value for name, value in one.run.items() if name not in ("lengths", "times")},
        "wasted_ratio": outcome.wasted_ratio, "preemptions": outcome.preemptions,
    }  # fmt: skip


def with_values(efficiency: Efficiency, values: Mapping[str, float]) -> Efficiency:
    """A copy with other constants, the front end's among them."""
    own = {name: value for name, value in values.items() if name in {field.name for field in fields(Efficiency)}}
    rest = {name: value for name, value in values.items() if name not in own}
    return replace(efficiency, **own, frontend=replace(efficiency.frontend, **rest))


def calibrate(runs: list[Measured], start: Efficiency, rounds: int = 1500) -> Efficiency:
    """The constants under which the runs are likeliest, by random steps from the priors: the same result each time."""
    widths = {"throughput": 0.05, "tpot": 0.05, "ttft_p95": 0.15}
    chance = random.Random(1)  # noqa: S311 # repeatable on purpose

    def loss(values: Mapping[str, float]) -> float:
        far = sum((math.log(values[name] / middle) / width) ** 2 for name, (middle, width) in PRIORS.items())
        for one in runs:
            seen = errors(one, simulate(one, with_values(start, values)))
            far += sum((math.log1p(max(seen[name], -0.999)) / width) ** 2 for name, width in widths.items())
        return far

    best = {name: middle for name, (middle, _) in PRIORS.items()}
    least, step = loss(best), 0.6
    for _ in range(rounds):
        tried = dict(best)
        for name in chance.sample(sorted(PRIORS), chance.choice((1, 1, 2, 3))):
            tried[name] *= math.exp(chance.gauss(0, step) * PRIORS[name][1])
        if (found := loss(tried)) < least:
            best, least = tried, found
        else:
            step = max(0.1, step * 0.997)
    return with_values(start, best)


def main() -> int:
    """Compares; 1 if a prediction is further off than allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=RUNS)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    console = Console(width=110)
    runs = load_runs(*options.runs)
    efficiency = calibration().efficiency
    if options.calibrate:
        efficiency = calibrate([one for one in runs if one.key in CALIBRATED_ON], efficiency)
        for name, value in {**asdict(efficiency), **asdict(efficiency.frontend)}.items():
            if isinstance(value, float):
                console.print(f"{name}: {value:.3g}")
    table = Table(title="predicted ÷ measured - 1, %", title_justify="left")
    for column in ("model", "mix", "users", "tokens/s", *MOST, "ttft_p50", ""):
        table.add_column(column, justify="left" if column in ("model", "mix", "") else "right")
    rows = [compare(one, efficiency) for one in runs]
    missed: list[str] = []
    for row in rows:
        off = row["errors"]
        key = (row["model"], row["mix"], row["concurrency"])
        missed += [f"{key}: {name} is off by {100 * off[name]:+.0f} %" for name in row["missed"]]
        note = "calibration" if row["calibration"] else "MISSED" if row["missed"] else ""
        shown = [f"{100 * off[name]:+.1f}" for name in (*MOST, "ttft_p50")]
        table.add_row(*map(str, key), f"{row['measured']['output_tokens_per_second']:,.0f}", *shown, note)
    console.print(table)
    for line in missed:
        console.print(f"MISSED {line}")
    if options.json:
        facts = {"date": time.strftime("%Y-%m-%d"), "efficiency": asdict(efficiency), "missed": missed}
        options.json.write_text(json.dumps({**facts, "runs": rows}, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)
    if options.page:
        before, _, rest = PAGE.read_text().partition(COLUMNS)
        PAGE.write_text(before + page_table(rows) + "\n\n" + rest.partition("\n\n")[2])
    return 1 if missed else 0


def page_table(rows: list[dict[str, Any]]) -> str:
    """The runs as the reference page has them: tokens a second, ms and ms, each measured and predicted."""
    figures = (
        ("throughput", "output_tokens_per_second", 1, ",.0f"),
        ("tpot", "tpot_p50_seconds", 1000, ",.1f"),
        ("ttft_p95", "ttft_p95_seconds", 1000, ",.0f"),
    )
    lines = [COLUMNS, "| " + "--- | " * COLUMNS[1:-1].count("|") + "--- |"]
    for row in rows:
        cells = [row["model"], row["mix"], str(row["concurrency"])]
        for name, key, factor, form in figures:
            measured, off = row["measured"][key] * factor, row["errors"][name]
            cells += [f"{measured:{form}}", f"{measured * (1 + off):{form}} ({100 * off:+.0f} %)"]
        note = "calibration" if row["calibration"] else "over" if row["missed"] else ""
        lines.append(f"| {' | '.join(cells)} | {note}{' ' if note else ''}|")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Throughput, TPOT and TTFT over the number of users: measured as points, predicted as lines."""
    figures = (
        ("throughput", "output_tokens_per_second", "output tokens/s", 1.0),
        ("tpot", "tpot_p50_seconds", "TPOT p50, ms", 1000.0),
        ("ttft_p95", "ttft_p95_seconds", "TTFT p95, ms", 1000.0),
    )
    models = sorted({row["model"] for row in rows})
    colours = mpl.colormaps["tab20"]
    canvas, axes = plt.subplots(len(figures), 2, figsize=(11, 11), sharex=True)
    for column, mix in enumerate(("chat", "documents")):
        for line, (name, key, label, factor) in enumerate(figures):
            axis = axes[line][column]
            for number, model in enumerate(models):
                own = sorted(
                    (row for row in rows if (row["model"], row["mix"]) == (model, mix)),
                    key=lambda row: row["concurrency"],
                )
                users = [row["concurrency"] for row in own]
                seen = [row["measured"][key] * factor for row in own]
                told = [value * (1 + row["errors"][name]) for value, row in zip(seen, own, strict=True)]
                axis.plot(users, told, color=colours(number), label=model if line == 0 and column == 0 else None)
                axis.plot(users, seen, "o", color=colours(number))
            axis.set_xscale("log", base=2)
            axis.set_xticks(USERS, map(str, USERS))
            axis.set_yscale("log")
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
            if line == 0:
                axis.set_title(f"{mix}: lines predicted, points measured")
            if line == len(figures) - 1:
                axis.set_xlabel("users")
    canvas.legend(loc="lower center", ncols=(len(models) + 1) // 2, frameon=False)
    canvas.tight_layout(rect=(0, 0.05, 1, 1))
    canvas.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


if __name__ == "__main__":
    sys.exit(main())
