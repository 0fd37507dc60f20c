"""From what was recorded to a RunResult: pure."""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import locust

import vllmstack
from loadtest.clock.recorder import Recorder
from loadtest.coordination.preparation import PreparedRun
from loadtest.results import (
    Calibration,
    ClientHealth,
    EngineDelta,
    Environment,
    Flag,
    ModelFacts,
    RunResult,
)


@dataclass(kw_only=True)
class RunState:
    """A run as its leader knows it, at any moment."""

    run: PreparedRun
    id: str
    started_at: str
    recorder: Recorder
    elapsed_seconds: float = 0.0
    health: ClientHealth = field(default_factory=ClientHealth)
    calibration: Calibration | None = None
    engines: Sequence[EngineDelta] = ()
    flags: Sequence[Flag] = ()
    interrupted: bool = False


def assemble(state: RunState) -> RunResult:
    """The result of what is there, finished or not."""
    options, recorder = state.run.options, state.recorder
    start, end = _window(state)
    window_seconds = max(end - start, 0.0)
    total, series = recorder.series(window_seconds)
    health = state.health.model_copy(update={"calibration": state.calibration, "chunks": recorder.chunks})
    return RunResult(
        id=state.id,
        started_at=state.started_at,
        scenario=options.scenario,
        scenario_text=state.run.scenario.model_dump(mode="json", exclude_none=True),
        load=options.load(),
        seed=options.seed,
        warmup_seconds=start if options.requests is None else 0.0,
        duration_seconds=window_seconds,
        drain_seconds=max(state.elapsed_seconds - end, 0.0) if math.isfinite(end) else 0.0,
        limits=options.limits,
        environment=_environment(state.run),
        total=total,
        series=series,
        timeline=recorder.timeline(),
        offered=recorder.offered(window_seconds),
        client=health,
        whole=recorder.whole,
        engines=list(state.engines),
        flags=list(state.flags),
        interrupted=state.interrupted,
    )


def _window(state: RunState) -> tuple[float, float]:
    """Start and end of what rates are divided by, seconds since the run's start."""
    options = state.run.options
    if options.requests is not None:
        return state.recorder.span or (0.0, 0.0)
    start = options.warmup_seconds
    return start, max(start, min(state.run.window_end, state.elapsed_seconds))


def _environment(run: PreparedRun) -> Environment:
    versions = {
        "vllmstack": vllmstack.__version__,
        "vllm": run.stack.vllm,
        "locust": locust.__version__,
        "python": platform.python_version(),
    }
    model = run.model
    facts = ModelFacts(
        name=model.name,
        replicas=len(model.engines),
        gpu=model.gpu,
        gpus_per_replica=model.gpus_per_replica,
        options=model.options,
        weights_bytes=model.weights_bytes,
        memory_bytes_per_second=model.memory_bytes_per_second,
    )
    return Environment(
        deployment=run.stack.deployment,
        url=run.url,
        versions={name: version for name, version in versions.items() if version},
        git=run.options.git,
        host=host_facts(),
        models=[facts],
    )


def host_facts() -> dict[str, str]:
    """The machine that the load comes from."""
    facts = {"kernel": platform.release(), "machine": platform.machine()}
    try:
        information = Path("/proc/cpuinfo").read_text()
        names = [line.partition(":")[2].strip() for line in information.splitlines() if line.startswith("model name")]
        facts |= {"cpu": names[0], "cores": str(len(names))} if names else {}
        memory = Path("/proc/meminfo").read_text().split()[1]
        facts["memory"] = f"{int(memory) / 2**20:.0f} GiB"
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or a kernel that hides it: the report does without
    return facts
