"""Ten times more requests than the engines can take: those that are taken must not suffer, the others be told at once.

    python scripts/bench_overload.py [--seconds 30] [--times 10] [--cores 0.75] [--json FILE]

Two CPU engines (scripts/bench_overload.yaml) behind the gateway, held to `--cores` each: what is left of two cores
is the gateway's, the client's and Docker's. Capacity is what a closed loop of `max_in_flight` requests completes;
then requests come at `--times` that rate, whatever becomes of them. Asked: p99 of TTFT of those that were taken at
most 1.5 times of that at capacity; all others 429 within 50 ms, p99; at least 90 % of the completed requests a
second at capacity.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from scripts.bench_gateway_chat import Answered, ask
from scripts.bench_gateway_stack import MODEL, BenchStack

MOST_TTFT_RATIO = 1.5
MOST_REFUSAL_SECONDS = 0.05
LEAST_GOODPUT_RATIO = 0.9
PROMPT_WORDS = 150
ANSWER_TOKENS = 256
"""Long enough that ten times the capacity is some 50 requests a second: the client shares the engines' two cores."""
AGAIN_SECONDS = 0.05
IN_FLIGHT = 16
"""admission.max_in_flight of the deployment."""


async def one(url: str, number: int) -> Answered:
    """A chat that shares nothing with the others."""
    content = f"{number} " + " ".join(str((number * 7919 + index * 104729) % 1000) for index in range(PROMPT_WORDS))
    return await ask(url, model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=ANSWER_TOKENS)


async def closed_loop(url: str, seconds: float, numbers: "count[int]") -> tuple[list[Answered], float]:
    """As many requests at a time as may be in flight; the answers, and how long it took."""
    answers: list[Answered] = []
    begun = perf_counter()

    async def user() -> None:
        while perf_counter() - begun < seconds:
            answers.append(await one(url, next(numbers)))
            if answers[-1].status == 429:  # the gateway has not seen the end of this user's last request yet
                await asyncio.sleep(AGAIN_SECONDS)

    await asyncio.gather(*(user() for _ in range(IN_FLIGHT)))
    return answers, perf_counter() - begun


async def open_loop(url: str, seconds: float, rate: float, numbers: "count[int]") -> tuple[list[Answered], float]:
    """A Poisson process of requests; the answers, and how long it took."""
    chance = random.Random(1)  # noqa: S311 # repeatable on purpose
    asked: list[asyncio.Task[Answered]] = []
    begun = due = perf_counter()
    while due - begun < seconds:
        await asyncio.sleep(max(0.0, due - perf_counter()))
        asked.append(asyncio.create_task(one(url, next(numbers))))
        due += chance.expovariate(rate)
    answers = await asyncio.gather(*asked)
    return answers, perf_counter() - begun


def figures(answers: list[Answered], seconds: float) -> dict[str, Any]:
    """Of one run."""
    taken = sorted(answer.ttft_seconds for answer in answers if answer.status == 200 and answer.ttft_seconds)
    refused = sorted(answer.seconds for answer in answers if answer.status == 429)
    return {
        "requests": len(answers),
        "statuses": {str(status): number for status, number in Counter(answer.status for answer in answers).items()},
        "completed_per_second": len(taken) / seconds,
        "ttft_p50_seconds": quantile(taken, 0.5),
        "ttft_p99_seconds": quantile(taken, 0.99),
        "refusal_p50_seconds": quantile(refused, 0.5),
        "refusal_p99_seconds": quantile(refused, 0.99),
    }


def quantile(ordered: list[float], share: float) -> float | None:
    """None of nothing."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def judge(capacity: dict[str, Any], overload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each figure beside its limit."""
    ttft = (overload["ttft_p99_seconds"] or 0.0) / capacity["ttft_p99_seconds"]
    refusal = overload["refusal_p99_seconds"] or 0.0
    goodput = overload["completed_per_second"] / capacity["completed_per_second"]
    others = sum(number for status, number in overload["statuses"].items() if status not in ("200", "429"))
    return {
        "TTFT p99 ÷ that at capacity": {"measured": ttft, "limit": MOST_TTFT_RATIO, "met": ttft <= MOST_TTFT_RATIO},
        "429 within, p99, s": {
            "measured": refusal, "limit": MOST_REFUSAL_SECONDS, "met": refusal <= MOST_REFUSAL_SECONDS
        },
        "goodput ÷ capacity": {
            "measured": goodput, "limit": LEAST_GOODPUT_RATIO, "met": goodput >= LEAST_GOODPUT_RATIO
        },
        "neither answered nor 429": {"measured": others, "limit": 0, "met": others == 0},
    }  # fmt: skip


def main() -> int:
    """Measures; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of each part")
    parser.add_argument("--times", type=float, default=10, help="of the capacity")
    parser.add_argument("--cores", type=float, default=0.75, help="of each engine; what is left is everybody else's")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    console = Console(width=120)
    numbers = count()
    with BenchStack("vllmstack-bench-overload", Path(__file__).with_suffix(".yaml")) as stack:
        stack.up()
        stack.hold_engines(options.cores)
        asyncio.run(closed_loop(stack.url, 10, numbers))  # what is done for the first time is nobody's
        capacity = figures(*asyncio.run(closed_loop(stack.url, options.seconds, numbers)))
        console.print("capacity", capacity)
        rate = options.times * capacity["completed_per_second"]
        overload = figures(*asyncio.run(open_loop(stack.url, options.seconds, rate, numbers)))
        console.print(f"{rate:.0f} requests/s", overload)
    verdict = judge(capacity, overload)
    for name, row in verdict.items():
        console.print(f"{'met   ' if row['met'] else 'MISSED'} {name}: {row['measured']:.3f}, limit {row['limit']}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"date": time.strftime("%Y-%m-%d"), "asked_per_second": rate, "in_flight": IN_FLIGHT}
        results = {"capacity": capacity, "overload": overload, "verdict": verdict}
        options.json.write_text(json.dumps({**facts, **results}, indent=1) + "\n")
    return 0 if all(row["met"] for row in verdict.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
