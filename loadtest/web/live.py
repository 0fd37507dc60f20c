"""What the page asks for once a second, computed no more often than the load generator can afford."""

import time
from collections.abc import Callable
from typing import Any

from loadtest.results import Flag, RunResult
from loadtest.stack import StackFacts
from loadtest.trust.health import judge_client
from loadtest.web import targets, view
from loadtest.web.timeline import Timeline

REFRESH_SECONDS = 0.9
"""However many browsers look at it; they ask once a second."""
AFFORDED_SHARE = 0.02
"""Of one core. Where one process is everything, the page must not delay the streams that it shows."""
LIVE_STATES = ("spawning", "running")
CHANGED = "the load was changed under way: {}; the figures mix both loads"
LEAST_OFFERED = 0.98
ENOUGH_ASKED = 50
"""Below, one request more or less is 2 %."""


class LiveView:
    """The state of the current run, or of the last one."""

    def __init__(
        self,
        *,
        source: Callable[[], RunResult | None],
        stack: StackFacts | None,
        settle_seconds: float,
        pause: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._source = source
        self._stack = stack
        self._settle_seconds = settle_seconds
        """How long a second takes until all processes have reported it."""
        self._pause = pause
        self._clock = clock
        self._timeline = Timeline(pause=pause)
        self._kept: dict[str, Any] | None = None
        self._kept_for = ("", "")
        self._good_until = 0.0
        self._computing = False

    def state(self, runner_state: str, changes: str = "") -> dict[str, Any]:
        """For the page; ``run`` is None before the first run and while one is prepared.

        ``changes`` says how somebody changed the load since the run began.
        """
        key = (runner_state, changes)
        fresh = self._clock() < self._good_until and self._kept_for == key
        if self._kept is not None and (fresh or self._computing):
            return self._kept
        self._computing = True
        began = self._clock()
        try:
            self._kept = self._compute(runner_state, changes)
        finally:
            self._computing = False
        self._kept_for = key
        ended = self._clock()
        self._good_until = ended + max(REFRESH_SECONDS, (ended - began) / AFFORDED_SHARE)
        return self._kept

    def _compute(self, runner_state: str, changes: str) -> dict[str, Any]:
        run = self._source()
        live = runner_state in LIVE_STATES
        if run is None:
            return {"state": runner_state, "live": live, "run": None, "targets": targets.not_run(self._stack)}
        run = with_live_flags(run, changes=changes, live=live)
        elapsed = elapsed_seconds(run)
        return {
            "state": runner_state,
            "live": live,
            "phase": phase(run, live=live, elapsed=elapsed),
            "elapsed_seconds": elapsed,
            "run": view.description(run),
            "rows": view.series_rows(run, self._pause),
            "health": view.health(run),
            "timeline": self._timeline.columns(run, until=elapsed - self._settle_seconds if live else None),
            "targets": targets.live(run, self._stack, changed=changes and CHANGED.format(changes)),
        }


def elapsed_seconds(run: RunResult) -> float:
    """Since the run's start, as far as it is known: a stalled server makes no events, but its window goes on."""
    seen = run.timeline[-1].at + 1.0 if run.timeline else 0.0
    if not run.duration_seconds:
        return seen
    return max(seen, run.warmup_seconds + run.duration_seconds + run.drain_seconds)


def with_live_flags(run: RunResult, *, changes: str, live: bool) -> RunResult:
    """What is flagged at the end of a run at the latest, as soon as it is to be seen."""
    flags = list(run.flags)
    if changes:
        hint = "stop and start again to measure one load"
        flags.append(Flag(kind="offered", severity="warning", fact=CHANGED.format(changes), hint=hint))
    offered = run.offered
    known = {flag.kind for flag in run.flags}
    if live and "client" not in known:
        flags += judge_client(run.client)
    if live and "offered" not in known and offered.asked >= ENOUGH_ASKED and offered.ratio < LEAST_OFFERED:
        fact = (
            f"only {offered.ratio:.1%} of the asked load was sent so far ({offered.sent} of {offered.asked} requests)"
        )
        flags.append(Flag(kind="offered", severity="invalid", fact=fact, hint="give the client more CPU or processes"))
    return run.model_copy(update={"flags": flags})


def phase(run: RunResult, *, live: bool, elapsed: float) -> str:
    """What happens now, in words."""
    if not live:
        return "ended early" if run.interrupted else "ended"
    if not run.timeline:
        return "starting"
    if run.drain_seconds:
        return "draining"
    return "warming up" if elapsed < run.warmup_seconds else "measuring"
