"""How long the planner's simulator takes: a million requests at a fleet of replicas.

    python scripts/bench_simulator.py [--requests 1000000] [--replicas 32] [--rate 16]

Llama-3.1-8B on H200s, 500 tokens in and 200 out in the mean, 16 requests a second for each replica. 1 if a million
would take more than a minute.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vllmstack.planning.dimensions import public_models
from vllmstack.planning.engine_options import EngineOptions, release_of
from vllmstack.planning.gpus import gpu_types
from vllmstack.prediction.design import Design
from vllmstack.prediction.efficiency import calibration
from vllmstack.prediction.forecast import percentiles
from vllmstack.prediction.load import Load
from vllmstack.simulation.policies import LeastRequests
from vllmstack.simulation.service import serve_arrivals

MOST_SECONDS = 60.0


def main() -> int:
    """Simulates, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, default=32)
    parser.add_argument("--rate", type=float, default=16.0, help="requests a second for each replica")
    options = parser.parse_args()
    design = Design(
        model=public_models()["meta-llama/Llama-3.1-8B"], options=EngineOptions(max_model_len=8192),
        gpu=gpu_types()["H200"], release=release_of(None),
    )  # fmt: skip
    load = Load(requests_per_second=options.rate * options.replicas, prompt_tokens=500, completion_tokens=200)
    begun = time.perf_counter()
    outcome = serve_arrivals(
        load.arrivals(options.requests), design.profile(calibration().efficiency), replicas=options.replicas,
        policy=LeastRequests(),
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    ttft = percentiles(outcome.ttft)
    print(
        f"{options.requests:,} requests, {options.replicas} replicas, {load}: {seconds:.1f} s; "
        f"{outcome.seconds:,.0f} s simulated, TTFT p50 {ttft['p50'] * 1000:.0f} ms, p99 {ttft['p99'] * 1000:.0f} ms, "
        f"{outcome.preemptions} preemptions"
    )
    return 1 if seconds * 1_000_000 / options.requests > MOST_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
