"""Routing policies on real replicas: vLLM's own prefix-cache hit rate, and how evenly they are busy.

    python scripts/bench_routing.py [--rounds 3] [--seconds 60] [--json FILE]

Four CPU engines (scripts/bench_routing.yaml) behind the gateway; the same conversations of the same customers, once
with each policy in turns, each time on empty caches. Then one hot prefix: instructions that all requests share. Asked
of `lmetric`: at least 1.5 times round robin's hit rate, with the busiest replica at most 1.3 times the mean of
requests, and at most 1.2 times with the hot prefix.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from loadtest.stack import TokenizerSource
from loadtest.workload.lexicon import Lexicon
from loadtest.workload.tokenizer import load_tokenizer
from scripts.bench_gateway_chat import Answered, ask
from scripts.bench_gateway_stack import MODEL, ROOT, BenchStack
from vllmstack.engine_metrics import PREFIX_HITS, PREFIX_QUERIES, REQUESTS
from vllmstack.simulation.loads import ChatLoad, conversations
from vllmstack.simulation.requests import Conversation, Piece

POLICIES = ("round-robin", "session", "lmetric")
LEAST_HIT_RATIO = 1.5
MOST_BUSIEST = 1.3
MOST_BUSIEST_HOT = 1.2
LONGEST_TOKENS = 1700
"""Of a conversation; the chat template and the engine's limit of 2,048 are above."""


def chat(seconds: float, rate: float) -> ChatLoad:
    """Customers with instructions of some 500 tokens, and conversations of a few turns."""
    return ChatLoad(
        conversations_per_second=rate, seconds=seconds, tenants=48, system_tokens=(300, 700), popularity=0.5, turns=4,
        message_tokens=40, answer_tokens=16, pause_seconds=2,
    )  # fmt: skip


def hot(seconds: float, rate: float) -> ChatLoad:
    """Single questions after the same 1,000 tokens."""
    return replace(
        chat(seconds, rate), tenants=1, system_tokens=(1000, 1000), turns=0.1, message_tokens=60, answer_tokens=32
    )


class Speaker:
    """Writes pieces out: equal identities are equal texts, of one token a word."""

    def __init__(self) -> None:
        source = TokenizerSource(directory=f"models/{MODEL}")
        self._lexicon = Lexicon(load_tokenizer(source, relative_to=ROOT))

    def text(self, run: str, piece: Piece, start: int) -> str:
        """Of a piece that begins ``start`` tokens into its prompt."""
        numbers = random.Random(f"{run} {piece.identity}")  # noqa: S311 # repeatable on purpose
        return " ".join(self._lexicon.draw(numbers, piece.end - start))


async def talk(url: str, conversation: Conversation, speaker: Speaker, run: str) -> list[Answered]:
    """One conversation, with the answers that really came."""
    await asyncio.sleep(conversation.arrival_seconds)
    system = conversation.turns[0].prompt[0]
    messages = [{"role": "system", "content": speaker.text(run, system, 0)}]
    answers: list[Answered] = []
    for turn in conversation.turns:
        if turn.answer.end > LONGEST_TOKENS:
            break
        await asyncio.sleep(turn.pause_seconds)
        question = speaker.text(run, turn.prompt[-1], turn.prompt[-2].end)
        messages.append({"role": "user", "content": question})
        headers = {"X-Session-Id": conversation.key}
        answers.append(
            await ask(url, model=MODEL, messages=messages, max_tokens=turn.completion_tokens, headers=headers)
        )
        messages.append({"role": "assistant", "content": answers[-1].text})
    return answers


async def together(url: str, load: list[Conversation], speaker: Speaker, run: str) -> list[Answered]:
    """All conversations."""
    talks = await asyncio.gather(*(talk(url, one, speaker, run) for one in load))
    return [answer for answers in talks for answer in answers]


def measure(stack: BenchStack, load: ChatLoad, speaker: Speaker, seed: int, name: str) -> dict[str, Any]:
    """One policy's run, on empty caches.

    The conversations are those of the other policies, in other words: the gateway remembers what it sent where, and
    would take every replica for one that has it all.
    """
    names = (PREFIX_QUERIES, PREFIX_HITS, REQUESTS)
    stack.reset_caches()
    before = stack.readings(names)
    answers = asyncio.run(together(stack.url, conversations(load, seed), speaker, f"{seed} {name}"))
    after = stack.readings(names)
    grown = {
        name: [after[service].sums[name] - before[service].sums.get(name, 0.0) for service in after] for name in names
    }
    ttft = sorted(one.ttft_seconds for one in answers if one.status == 200 and one.ttft_seconds is not None)
    requests = grown[REQUESTS]
    return {
        "hit_ratio": sum(grown[PREFIX_HITS]) / sum(grown[PREFIX_QUERIES]),
        "busiest_ratio": max(requests) / statistics.mean(requests),
        "requests_by_replica": requests,
        "ttft_p50_seconds": ttft[len(ttft) // 2],
        "ttft_p99_seconds": ttft[int(len(ttft) * 0.99)],
        "failed": sum(one.status != 200 for one in answers),
    }


def median(rounds: list[dict[str, Any]], name: str) -> float:
    """Over the rounds."""
    return statistics.median(float(one[name]) for one in rounds)


def judge(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Each figure beside its limit."""
    ratio = median(rounds["lmetric"], "hit_ratio") / median(rounds["round-robin"], "hit_ratio")
    busiest = median(rounds["lmetric"], "busiest_ratio")
    hottest = median(rounds["lmetric, hot prefix"], "busiest_ratio")
    failed = sum(one["failed"] for several in rounds.values() for one in several)
    return {
        "hit rate ÷ round robin's": {"measured": ratio, "limit": LEAST_HIT_RATIO, "met": ratio >= LEAST_HIT_RATIO},
        "busiest ÷ mean": {"measured": busiest, "limit": MOST_BUSIEST, "met": busiest <= MOST_BUSIEST},
        "the same, hot prefix": {"measured": hottest, "limit": MOST_BUSIEST_HOT, "met": hottest <= MOST_BUSIEST_HOT},
        "failed requests": {"measured": failed, "limit": 0, "met": failed == 0},
    }


def main() -> int:
    """Measures; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="in which conversations begin")
    parser.add_argument("--rate", type=float, default=4.0, help="conversations a second")
    parser.add_argument("--hot-rate", type=float, default=20.0, help="requests a second with the hot prefix")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    console = Console(width=120)
    speaker = Speaker()
    loads = {policy: chat(options.seconds, options.rate) for policy in POLICIES}
    loads["lmetric, hot prefix"] = hot(options.seconds / 2, options.hot_rate)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in loads}
    with BenchStack("vllmstack-bench-routing", Path(__file__).with_suffix(".yaml")) as stack:
        for number in range(options.rounds):
            for name in list(loads)[:: -1 if number % 2 else 1]:
                stack.up(routing=name.partition(",")[0])
                if not any(rounds.values()):
                    # What is done for the first time is nobody's.
                    measure(stack, hot(5, options.rate), speaker, 0, "warm-up")
                rounds[name].append(measure(stack, loads[name], speaker, number, name))
                console.print(f"{number + 1} {name}", rounds[name][-1])
    verdict = judge(rounds)
    for name, row in verdict.items():
        console.print(f"{'met   ' if row['met'] else 'MISSED'} {name}: {row['measured']:.3f}, limit {row['limit']}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"date": time.strftime("%Y-%m-%d"), "seconds": options.seconds, "rate": options.rate}
        options.json.write_text(json.dumps({**facts, "rounds": rounds, "verdict": verdict}, indent=1) + "\n")
    return 0 if all(row["met"] for row in verdict.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
