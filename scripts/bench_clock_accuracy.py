"""How well the token clock keeps time: 256 streams of known TTFT and ITL, started over two seconds and all at once.

``python scripts/bench_clock_accuracy.py [--json FILE]``; exit 1 if the clock is further off than it may be. The mock
server's own times, as it wrote, are the truth; what was asked of it is shown beside. Where there are two cores, mock
and client have one each.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.trust.calibration import ITL_SECONDS, TTFT_SECONDS, rehearse
from loadtest.trust.mock_process import cores

NOMINAL = {"ttft_seconds": TTFT_SECONDS, "itl_seconds": ITL_SECONDS}
ALLOWED = {("ttft_seconds", "p50"): 0.005, ("ttft_seconds", "p99"): 0.015, ("itl_seconds", "p50"): 0.001,
           ("itl_seconds", "p99"): 0.001}  # fmt: skip
"""Seconds between what the clock says and the truth."""
CASES = {"started over 2 s": ("--starts", "poisson", "--over-seconds", "2"), "all at once": ("--starts", "once")}
JUDGED = "started over 2 s"


def measure(case: tuple[str, ...], streams: int, tokens: int) -> dict[str, Any]:
    """One rehearsal and its errors."""
    free = cores()
    pins: dict[str, Any] = {"mock_cores": free[-1:], "core": free[0]} if len(free) > 1 else {}
    work = ("--streams", str(streams), "--tokens", str(tokens))
    [seen] = rehearse(*work, *case, limit_seconds=60 + tokens * ITL_SECONDS * 4, **pins)
    truth = seen["truths"][0]
    errors = {
        f"{name} {percentile}": {
            "measured": seen[name][percentile],
            "true": truth[name][percentile],
            "nominal": NOMINAL[name],
            "error": seen[name][percentile] - truth[name][percentile],
            "allowed": allowed,
        }
        for (name, percentile), allowed in ALLOWED.items()
    }
    within = all(abs(entry["error"]) <= entry["allowed"] for entry in errors.values())
    return {
        "within": within and seen["counts_exact"],
        "errors": errors,
        "counts_exact": seen["counts_exact"],
        "outcomes": seen["outcomes"],
        "chunks": seen["chunks"],
        "microseconds_a_chunk": seen["microseconds_a_chunk"],
        "loop_lag_p99_seconds": seen["loop_lag_p99_seconds"],
        "mock_cpu_ratio": truth["cpu_seconds"] / seen["wall_seconds"],
        "mock_lateness_p99_seconds": truth["lateness_seconds"]["p99"],
    }


def show(console: Console, case: str, found: dict[str, Any]) -> None:
    """One case as a table."""
    table = Table(title=f"{case}: {found['chunks']} chunks", title_justify="left")
    for column in ("milliseconds", "measured", "mock's own", "nominal", "error", "allowed"):
        table.add_column(column, justify="left" if column == "milliseconds" else "right")
    for name, entry in found["errors"].items():
        figures = (f"{entry[key] * 1000:.3f}" for key in ("measured", "true", "nominal", "error", "allowed"))
        table.add_row(name.replace("_seconds", "").upper().replace("P", "p"), *figures)
    console.print(table)
    console.print(
        f"counts {'exact' if found['counts_exact'] else 'WRONG'} {found['outcomes']}, "
        f"{found['microseconds_a_chunk']:.1f} µs of CPU a chunk, "
        f"loop lag p99 {found['loop_lag_p99_seconds'] * 1000:.1f} ms; "
        f"mock: {found['mock_cpu_ratio']:.0%} of a core, p99 {found['mock_lateness_p99_seconds'] * 1000:.2f} ms late\n"
    )


def main() -> int:
    """Measures both cases; 0 if the streams that were started over two seconds are within what is allowed."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    console = Console(width=110)
    results = {}
    for case, arguments in CASES.items():
        results[case] = measure(arguments, options.streams, options.tokens)
        show(console, case, results[case])
    met = results[JUDGED]["within"]
    console.print(f"{'within' if met else 'NOT within'} what is allowed, {JUDGED}")
    if options.json:
        facts = {"streams": options.streams, "tokens": options.tokens, "cores": len(cores())}
        options.json.write_text(json.dumps({**facts, "met": met, "cases": results}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
