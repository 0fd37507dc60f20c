"""How far the client itself is off, and how much it can take: measured against a server whose times are known."""

import json
import subprocess
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from loadtest.errors import LoadTestError
from loadtest.results import Calibration
from loadtest.trust.mock_process import end, mock_server, python_command, python_environment
from vllmstack.errors import Problem

TTFT_SECONDS = 0.1
ITL_SECONDS = 0.01
_HURRIED_ITL_SECONDS = 0.0025
"""For the second run, which measures CPU time: with little to do, most of a chunk's would be for waking up."""
_PERCENTILES = ("p50", "p99")


def calibrate(*, streams: int = 32, tokens: int = 100) -> Calibration:
    """Measures the client for about three seconds.

    Mock server and client run as two processes of their own. The errors are the client's percentiles minus those of
    the times at which the mock really wrote, so that a mock without enough CPU does not count against the client; CPU
    time is of a second, faster run.

    Raises:
        LoadTestError: one of the two processes failed, or they took longer than a minute.
    """
    accurate, hurried = rehearse(
        "--streams", str(streams),
        "--tokens", str(tokens),
        "--over-seconds", str(ITL_SECONDS * 20),
        "--itl-seconds", str(ITL_SECONDS),
        "--itl-seconds", str(_HURRIED_ITL_SECONDS),
    )  # fmt: skip
    microseconds = hurried["microseconds_a_chunk"] or 0.0
    return Calibration(
        streams=streams,
        ttft_true_seconds=TTFT_SECONDS,
        itl_true_seconds=ITL_SECONDS,
        ttft_error_seconds=_errors(accurate, "ttft_seconds"),
        itl_error_seconds=_errors(accurate, "itl_seconds"),
        microseconds_a_chunk=microseconds,
        headroom_chunks_per_second=1e6 / microseconds if microseconds else 0.0,
        loop_lag_p99_seconds=accurate["loop_lag_p99_seconds"],
        counts_exact=accurate["counts_exact"] and hurried["counts_exact"],
    )


def rehearse(
    *arguments: str, mock_cores: Sequence[int | None] = (None,), core: int | None = None, limit_seconds: float = 60.0
) -> list[dict[str, Any]]:
    """What ``python -m loadtest.trust.rehearsal`` prints against mocks of its own; all have ended on return.

    Args:
        arguments: The rehearsal's options.
        mock_cores: A server on each of these CPU cores (None: on any); they share the streams.
        core: The client's.
        limit_seconds: The longest that it may take.

    Raises:
        LoadTestError: a process failed.
    """
    with ExitStack() as running:
        urls = []
        for mock_core in mock_cores:
            mock = mock_server(
                "--ttft-seconds", str(TTFT_SECONDS),
                "--itl-seconds", str(ITL_SECONDS),
                lifetime_seconds=limit_seconds,
                core=mock_core,
            )  # fmt: skip
            urls.append(running.enter_context(mock).url)
        client = subprocess.Popen(
            python_command("loadtest.trust.rehearsal", *urls, *arguments, core=core),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=python_environment(),
        )
        try:
            output, complaints = client.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            raise _failed(f"the calibration took longer than {limit_seconds:g} s") from None
        finally:
            end(client)
    if client.returncode:
        last = complaints.decode(errors="replace").strip().splitlines()[-1:] or [f"status {client.returncode}"]
        raise _failed(f"the calibration failed: {last[0]}")
    return [json.loads(line) for line in output.splitlines()]


def _errors(measured: dict[str, Any], name: str) -> dict[str, float]:
    seen, true = measured[name], measured["truths"][0][name]
    if not seen or not true:
        raise _failed(f"the calibration measured nothing: {measured['errors']}")
    return {percentile: seen[percentile] - true[percentile] for percentile in _PERCENTILES}


def _failed(fact: str) -> LoadTestError:
    return LoadTestError(Problem(fact=fact, hint="leave it out with --no-calibration, or give the client more CPU"))


def main() -> None:
    """Calibrates, and prints the result as JSON."""
    parser = ArgumentParser(prog="python -m loadtest.trust.calibration", description=(__doc__ or "").strip())
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=100)
    options = parser.parse_args()
    print(calibrate(streams=options.streams, tokens=options.tokens).model_dump_json(indent=1))


if __name__ == "__main__":
    main()
