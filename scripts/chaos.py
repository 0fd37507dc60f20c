"""Breaks a stack in every way it should survive, one after the other, under load, and says what its clients saw.

``python scripts/chaos.py [--rate 0.5] [--tokens 300] [--only NAME …] [--json FILE] [--keep]``

It brings up scripts/chaos.yaml, three replicas on CPU cores, and takes it down again. Exit status 1 if a limit is
missed: no request fails that had not received a byte (those that a killed gateway process itself held aside); a
replica is out within 10 s (one that hangs and says it is well: 5 s after `hung_seconds`) and serves again without help;
a gateway serves again within 3 s; its counts of requests in flight are right again within 5 s.
"""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts import chaos_faults as faults
from scripts.chaos_load import Load, Request
from scripts.chaos_watch import Sample, Watch
from vllmstack.host.containers import connect

ROOT = Path(__file__).resolve().parents[1]
DEPLOYMENT = Path(__file__).with_suffix(".yaml")
PORT = 18083
MODEL = "smoke"
REPLICAS = ("engine-smoke-1", "engine-smoke-2", "engine-smoke-3")
READY_SECONDS = 300.0
BACK_SECONDS = 300.0
GATEWAY_LIMIT_SECONDS = 3.0
COUNTS_LIMIT_SECONDS = 5.0
SETTLE_SECONDS = 8.0
STEADY_SECONDS = 3.0
PULSE_SECONDS = 10.0
COUNTED_SECONDS = 2.0
"""Counts are compared over such a span: at any one moment some requests are on their way between client and gateway."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    does: str
    begin: Callable[[faults.Stack, str], faults.Broken]
    seconds: float = 0.0
    """For how long, of a fault that is mended by hand."""
    of_gateway: bool = False
    stays_in: bool = False
    """The replica goes on serving."""
    out_seconds: float = 10.0
    """The limit until the replica gets no more requests."""


FAULTS = (
    Fault(name="kill-server", does="kill -9 of an API server", begin=faults.kill_server),
    Fault(name="kill-core", does="kill -9 of an EngineCore", begin=faults.kill_engine_core),
    Fault(name="pause", does="SIGSTOP of an engine", begin=faults.pause),
    # Its API server says that all is well: it is out five seconds after `hung_seconds`.
    Fault(name="pause-core", does="SIGSTOP of an EngineCore", begin=faults.pause_engine_core, out_seconds=25),
    Fault(name="network", does="no network for 15 s", begin=faults.pause_network, seconds=15),
    Fault(name="disk", does="a full /tmp for 20 s", begin=faults.fill_disk, seconds=20, stays_in=True),
    Fault(name="worker", does="kill -9 of an nginx worker", begin=faults.kill_worker, of_gateway=True),
    Fault(name="gateway", does="kill -9 of the gateway", begin=faults.kill_gateway, of_gateway=True),
)


@dataclass(kw_only=True)
class Result:
    """What was seen of one fault. Seconds count from its beginning."""

    fault: str
    does: str
    replica: str = ""
    requests: int = 0
    """In flight at any time of it."""
    failed_before_a_byte: int = 0
    cut: int = 0
    """An answer that had begun and did not end."""
    lost_with_the_gateway: int = 0
    """Without a byte: connections that the killed process held, and while the gateway was not there."""
    out_seconds: float | None = None
    back_seconds: float | None = None
    counts_wrong_seconds: float = 0.0
    """Longest time that the gateway counted other requests in flight than the client."""
    complaints: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def main() -> int:
    """Every fault in turn; 0 if no limit was missed."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.5, help="requests a second")
    parser.add_argument("--tokens", type=int, default=300, help="of each answer")
    parser.add_argument("--only", nargs="+", choices=[fault.name for fault in FAULTS], default=None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="use the stack that runs, and leave it")
    options = parser.parse_args()
    if not options.keep:
        vllmstack("up", str(DEPLOYMENT))
    try:
        results = measure_all(options)
    finally:
        if not options.keep:
            vllmstack("down", "--delete-data")
    show(results)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    return 1 if any(one.missed for one in results) else 0


def measure_all(options: Namespace) -> list[Result]:
    """The faults that are asked for, each with another replica."""
    stack = faults.Stack(client=connect())
    results: list[Result] = []
    with Load(port=PORT, model=MODEL, rate=options.rate, tokens=options.tokens) as load, Watch(stack, load) as watch:
        for number, fault in enumerate(FAULTS):
            if options.only and fault.name not in options.only:
                continue
            result = measure(stack, load, watch, fault, REPLICAS[number % len(REPLICAS)])
            results.append(result)
            print(f"{fault.does}: {'; '.join(result.missed) or 'as it should be'} {asdict(result)}", flush=True)
    return results


def measure(stack: faults.Stack, load: Load, watch: Watch, fault: Fault, replica: str) -> Result:
    """One fault from its beginning until all is as before."""
    watch.until(lambda sample: sample.serving(REPLICAS), seconds=READY_SECONDS, lasting=STEADY_SECONDS)
    # It should have something to lose.
    watch.until(lambda sample: sample.in_flight.get(replica, 0) > 0, seconds=30)
    result = Result(fault=fault.name, does=fault.does, replica="" if fault.of_gateway else replica)
    broken, pulse = under_pulse(stack, watch, fault) if fault.of_gateway else (fault.begin(stack, replica), [])
    begun = broken.at
    if broken.mend:
        time.sleep(max(0.0, begun + fault.seconds - time.monotonic()))
        broken.mend()
    if not fault.of_gateway and not fault.stays_in:
        watch.until(lambda sample: not sample.takes.get(replica, True), seconds=60, since=begun)
    if not watch.until(lambda sample: sample.serving(REPLICAS), seconds=BACK_SECONDS, lasting=1.0):
        result.missed.append(f"not every replica serves again after {BACK_SECONDS:.0f} s")
    time.sleep(SETTLE_SECONDS)
    until = time.monotonic()
    # Whatever was in flight has its end: one that hangs would be a failure too.
    watch.until(lambda _: all(request.ended or request.sent > until for request in load.requests), seconds=150)
    note_requests(result, fault, load.between(begun, until) + pulse, begun)
    note_times(result, fault, watch.since(begun), pulse, begun)
    judge(result, fault)
    return result


def under_pulse(stack: faults.Stack, watch: Watch, fault: Fault) -> tuple[faults.Broken, list[Request]]:
    """A gateway's fault, and short requests that tell to a fifth of a second when it serves again."""
    with Load(port=PORT, model=MODEL, rate=5, tokens=1) as pulse:
        watch.loads.append(pulse)
        broken = fault.begin(stack, "")
        time.sleep(PULSE_SECONDS)
    watch.loads.remove(pulse)
    return broken, pulse.between(broken.at, time.monotonic())


def note_requests(result: Result, fault: Fault, requests: list[Request], begun: float) -> None:
    """What became of them. Of a gateway's fault, those are its own death that it held, or that found it gone."""
    result.requests = len(requests)
    for request in requests:
        if request.cut:
            result.cut += 1
        if not request.failed_before_a_byte:
            continue
        down = GATEWAY_LIMIT_SECONDS if fault.name == "gateway" else 0.0
        if fault.of_gateway and request.status is None and request.sent < begun + down:
            result.lost_with_the_gateway += 1
            continue
        result.failed_before_a_byte += 1
        result.complaints.append(f"sent at {request.sent - begun:+.1f} s: {request.error}"[:300])


def note_times(result: Result, fault: Fault, samples: list[Sample], pulse: list[Request], begun: float) -> None:
    """When the replica was out and in again, or the gateway answered again, and for how long its counts were wrong."""
    if fault.of_gateway:
        # One that was sent before its end and answered after it would be another's.
        answered = [one.ended for one in pulse if one.ended and not one.error]
        failed = [one.sent for one in pulse if one.error]
        back = [ended for ended in answered if ended > max(failed, default=0.0)]
        result.back_seconds = min(back) - begun if back else None
    else:
        out = [sample.at for sample in samples if not sample.takes.get(result.replica, True)]
        if out:
            result.out_seconds, result.back_seconds = out[0] - begun, out[-1] - begun
    result.counts_wrong_seconds = counts_wrong(samples)


def counts_wrong(samples: list[Sample]) -> float:
    """The longest run of looks from which on the two counts differ, over COUNTED_SECONDS, by half a request or more."""
    longest = 0.0
    wrong_since: float | None = None
    for first, sample in enumerate(samples):
        if samples[-1].at < sample.at + COUNTED_SECONDS:
            break
        span = [one for one in samples[first:] if one.at < sample.at + COUNTED_SECONDS]
        difference = sum(sum(one.in_flight.values()) - one.sent for one in span) / len(span)
        if abs(difference) < 0.5:
            wrong_since = None
        else:
            wrong_since = wrong_since or sample.at
            longest = max(longest, sample.at - wrong_since)
    return longest


def judge(result: Result, fault: Fault) -> None:
    """Fills in what is not as it should be."""
    checks = {
        f"{result.failed_before_a_byte} requests failed before a byte": result.failed_before_a_byte == 0,
        "counts of requests in flight are wrong for more than 5 s": (
            result.counts_wrong_seconds <= COUNTS_LIMIT_SECONDS
        ),
    }
    if fault.of_gateway:
        back = result.back_seconds is not None and result.back_seconds <= GATEWAY_LIMIT_SECONDS
        checks["it does not serve again within 3 s"] = back
    elif fault.stays_in:
        checks["the replica was taken out"] = result.out_seconds is None
    else:
        checks[f"the replica was not out within {fault.out_seconds:.0f} s"] = (
            result.out_seconds is not None and result.out_seconds <= fault.out_seconds
        )
    result.missed += [text for text, good in checks.items() if not good]


def show(results: list[Result]) -> None:
    """A table for people."""
    heads = ("fault", "requests", "failed before a byte", "cut", "lost with it", "out s", "back s", "counts wrong s")
    rows: list[tuple[Any, ...]] = [
        (
            one.does, one.requests, one.failed_before_a_byte, one.cut, one.lost_with_the_gateway,
            *("-" if seconds is None else f"{seconds:.1f}" for seconds in (
                one.out_seconds, one.back_seconds, one.counts_wrong_seconds)),
            "; ".join(one.missed),
        )
        for one in results
    ]  # fmt: skip
    print(f"{heads[0]:28} " + " ".join(f"{head:>{max(len(head), 6)}}" for head in heads[1:]))
    for row in rows:
        cells = " ".join(f"{cell:>{max(len(head), 6)}}" for cell, head in zip(row[1:-1], heads[1:], strict=True))
        print(f"{row[0]:28} {cells}  {row[-1]}")


def vllmstack(*arguments: str) -> None:
    """As a user would run it; its failure ends the measurement."""
    subprocess.run([sys.executable, "-m", "vllmstack", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
