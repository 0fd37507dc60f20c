"""What a run leaves behind: the one format that check, capacity, report, compare and the web UI read.

A run's folder holds ``run.json`` (a RunResult) and ``requests.csv`` (a line a request, see ROW_FIELDS).
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from loadtest.clock.histogram_data import HistogramData
from loadtest.errors import LoadTestError
from vllmstack.errors import Problem

FORMAT = 1
RUN_FILE = "run.json"
ROWS_FILE = "requests.csv"
ROW_FIELDS = (
    "scenario", "model", "session", "turn", "request_id", "outcome", "status", "error", "finish_reason",
    "scheduled_at", "sent_at", "first_token_at", "last_token_at", "ended_at",
    "ttft_seconds", "tpot_seconds", "prompt_tokens", "completion_tokens", "cached_tokens", "chunks", "measured",
)  # fmt: skip
"""Columns of requests.csv; times are seconds since the run's start; measured: 1 inside the window, 0 in warm-up."""

ALL = ""
"""Scenario or model of the series that holds everything."""


class Part(BaseModel):
    """Base of every part of a result."""

    model_config = ConfigDict(extra="forbid")


class LoadKind(StrEnum):
    """Who decides when the next request is sent."""

    CLOSED = "closed"
    """A fixed number of users: each waits for its answer."""
    OPEN = "open"
    """A schedule, whatever the server does."""


class Load(Part):
    """The load that was asked for."""

    kind: LoadKind
    concurrency: int | None = None
    """Closed loop: users."""
    rate: float | None = None
    """Open loop: sessions (for one-turn scenarios: requests) a second, the schedule's nominal mean."""
    arrivals: str = ""
    """Open loop: poisson, gamma, constant, ramp, steps or trace."""
    burstiness: float | None = None
    """Gamma arrivals: the shape; 1 is Poisson, smaller is burstier (as in vLLM's benchmark)."""
    requests: int | None = None
    """The run ends after this many, instead of after ``duration_seconds``; all of them are measured."""

    def __str__(self) -> str:
        if self.kind is LoadKind.CLOSED:
            return f"concurrency {self.concurrency}"
        return f"{self.rate:g}/s {self.arrivals}" if self.rate is not None else self.arrivals


class Latencies(Part):
    """Seconds. Service times count from sending, scheduled ones from when the request was due."""

    ttft: HistogramData = HistogramData()
    ttft_scheduled: HistogramData = HistogramData()
    tpot: HistogramData = HistogramData()
    itl: HistogramData = HistogramData()
    """One value a token: the time since the chunk before, shared evenly by the tokens of a chunk."""
    inter_chunk: HistogramData = HistogramData()
    """One value a chunk."""
    e2e: HistogramData = HistogramData()
    e2e_scheduled: HistogramData = HistogramData()


LATENCY_NAMES = tuple(Latencies.model_fields)


class Counts(Part):
    """Requests that were due inside the window."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    """Every outcome but ok and abandoned; ``by_outcome`` tells them apart."""
    abandoned: int = 0
    good: int = 0
    """OK and within every latency limit of the run's limits; equal to ``ok`` if there are none."""
    by_outcome: dict[str, int] = {}
    by_finish_reason: dict[str, int] = {}
    errors: dict[str, int] = {}
    """Times each text was seen; at most 50 texts."""


class Tokens(Part):
    """Of the requests in Counts, from `usage`."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None
    """Prompt tokens served from the prefix cache; None if no answer said."""
    expected_prompt: int = 0
    """What the scenario meant to send, where it knows."""
    prompt_mismatches: int = 0
    """Requests whose prompt was not of the expected length."""


class Series(Part):
    """One scenario and model, or ALL of them."""

    scenario: str = ALL
    model: str = ALL
    counts: Counts = Counts()
    tokens: Tokens = Tokens()
    window_tokens: int = 0
    """Output tokens that arrived inside the window, of whichever request."""
    window_seconds: float = 0.0
    latencies: Latencies = Latencies()
    lengths_prompt: HistogramData = HistogramData()
    lengths_completion: HistogramData = HistogramData()

    @property
    def output_tokens_per_second(self) -> float:
        return self.window_tokens / self.window_seconds if self.window_seconds else 0.0

    @property
    def requests_per_second(self) -> float:
        """Succeeded requests a second of the window."""
        return self.counts.ok / self.window_seconds if self.window_seconds else 0.0

    @property
    def error_ratio(self) -> float:
        """Failures over everything but what the scenario abandoned; 0 without requests."""
        judged = self.counts.sent - self.counts.abandoned
        return self.counts.failed / judged if judged else 0.0

    @property
    def goodput_ratio(self) -> float:
        judged = self.counts.sent - self.counts.abandoned
        return self.counts.good / judged if judged else 0.0


class Second(Part):
    """One second of the run, warm-up and drain included; ``at`` counts from the run's start."""

    at: int
    due: int = 0
    """Requests that the schedule (open loop) or the users (closed loop) wanted to send."""
    sent: int = 0
    ok: int = 0
    failed: int = 0
    good: int = 0
    tokens: int = 0
    """Output tokens that arrived."""
    in_flight: int = 0
    """At the end of the second."""
    ttft: HistogramData = HistogramData()
    """Of first tokens that came in this second."""
    tpot: HistogramData = HistogramData()
    """Of requests that ended in this second."""


class Offered(Part):
    """Whether the load that was asked for was offered."""

    asked: int = 0
    """Requests due inside the window, by the schedule."""
    sent: int = 0
    """Of those, requests sent before the window ended."""
    asked_per_second: float = 0.0
    sent_per_second: float = 0.0
    lateness: HistogramData = HistogramData()
    """Seconds between the scheduled time and sending: the client's own fault."""

    @property
    def ratio(self) -> float:
        return self.sent / self.asked if self.asked else 1.0


class Calibration(Part):
    """What the client measured against the mock server, whose TTFT and ITL are known, before the run."""

    streams: int
    ttft_true_seconds: float
    itl_true_seconds: float
    ttft_error_seconds: dict[str, float]
    """Measured minus true, by percentile: ``p50``, ``p99``."""
    itl_error_seconds: dict[str, float]
    microseconds_a_chunk: float
    """CPU time of the client process over the chunks it read."""
    headroom_chunks_per_second: float
    """What one process can read with a core to itself."""
    loop_lag_p99_seconds: float
    counts_exact: bool


class ClientHealth(Part):
    """The load generator itself, over the window; the worst of its processes."""

    processes: int = 1
    chunks: int = 0
    microseconds_a_chunk: float | None = None
    """All CPU time of all processes over all chunks."""
    cpu_ratio: float = 0.0
    """CPU time over wall time of the busiest process, 1 is one core."""
    loop_lag_p50_seconds: float = 0.0
    loop_lag_p99_seconds: float = 0.0
    loop_lag_max_seconds: float = 0.0
    """How late a timer of the event loop fires: every latency below may be too long by this much."""
    throttled_ratio: float = 0.0
    """Share of the scheduler's periods (100 ms) in which the container's CPU limit stopped the processes."""
    calibration: Calibration | None = None


class WholeRun(Part):
    """Everything that was sent, warm-up and drain too: what the engines must have counted as well."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    abandoned: int = 0
    prompt_tokens: int = 0
    """Of answers that said; a failed or abandoned request says nothing of what it cost."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    ttft_sum_seconds: float = 0.0
    ttft_count: int = 0
    e2e_sum_seconds: float = 0.0
    """Of succeeded requests."""

    def plus(self, other: "WholeRun") -> "WholeRun":
        """Both together."""
        return WholeRun(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class EngineDelta(Part):
    """What one engine's own metrics counted between the run's first and last request."""

    replica: str
    model: str
    requests: float = 0
    """request_success_total, all finish reasons."""
    prompt_tokens: float = 0
    generation_tokens: float = 0
    prefix_queries: float = 0
    prefix_hits: float = 0
    preemptions: float = 0
    mean_seconds: dict[str, float | None] = {}
    """Mean of the engine's histograms: ttft, queue, prefill, decode, itl, e2e."""
    quantiles_seconds: dict[str, dict[str, float | None]] = {}
    """p50, p95, p99 of the same, interpolated in the engine's coarse buckets as Prometheus does."""
    peak_running: int = 0
    peak_waiting: int = 0
    peak_kv_cache_ratio: float = 0.0
    """The peaks are of samples taken once a second."""
    restarted: bool = False
    """The engine began anew during the run: what it had counted before is lost."""


class Flag(Part):
    """Something that does not fit together."""

    kind: Literal["client", "offered", "reconciliation", "physics", "workload", "server"]
    severity: Literal["invalid", "warning", "note"]
    """invalid: the run's numbers must not be used; warning: look at it; note: good to know."""
    fact: str
    hint: str


class ModelFacts(Part):
    """What is known of a model and the hardware that serves it."""

    name: str
    replicas: int = 1
    gpu: str | None = None
    """GPU type, as nvidia-smi names it; None on a CPU."""
    gpus_per_replica: int = 0
    options: dict[str, Any] = {}
    """vLLM's options, as served."""
    weights_bytes: float | None = None
    """What each step of decoding reads of one replica's weights, at least, all its GPUs together."""
    memory_bytes_per_second: float | None = None
    """Memory bandwidth of one replica's GPUs together."""


class Environment(Part):
    """Where and with what it was measured."""

    deployment: str = ""
    url: str = ""
    versions: dict[str, str] = {}
    """vllmstack, vllm, locust, python, nginx."""
    git: str = ""
    """Commit of the clone, ``-dirty`` if something was changed."""
    host: dict[str, str] = {}
    """cpu, cores, memory, kernel."""
    models: list[ModelFacts] = []


class RunResult(Part):
    """One run."""

    format: Literal[1] = 1
    id: str
    """The folder's name."""
    started_at: str
    """UTC, ISO 8601."""
    scenario: str
    scenario_text: dict[str, Any] = {}
    """The scenario's file with the parameters of this run filled in."""
    load: Load
    seed: int = 0
    warmup_seconds: float = 0.0
    duration_seconds: float = 0.0
    """Of the window. With ``load.requests``: from the first sending to the last end."""
    drain_seconds: float = 0.0
    """From the window's end to the last answer."""
    limits: dict[str, float] = {}
    """Latency limits (seconds) behind ``good``: ttft, tpot, itl, e2e, whichever are set."""
    environment: Environment = Environment()
    total: Series
    series: list[Series] = []
    """One for each scenario and model that was seen."""
    timeline: list[Second] = []
    offered: Offered = Offered()
    client: ClientHealth = ClientHealth()
    whole: WholeRun = WholeRun()
    engines: list[EngineDelta] = []
    """Empty where the engines' metrics are out of reach."""
    flags: list[Flag] = []
    interrupted: bool = False
    """Ended before its time; what was measured until then is here."""

    @property
    def valid(self) -> bool:
        return not any(flag.severity == "invalid" for flag in self.flags)

    @property
    def invalid_reasons(self) -> list[str]:
        return [flag.fact for flag in self.flags if flag.severity == "invalid"]


def save(result: RunResult, folder: Path) -> None:
    """Writes ``run.json``: all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / (RUN_FILE + ".part")
    unfinished.write_text(result.model_dump_json(indent=1) + "\n")
    unfinished.replace(folder / RUN_FILE)


def load(folder: Path) -> RunResult:
    """The run in ``folder`` (or in the file itself).

    Raises:
        LoadTestError: there is none, or it is of another format.
    """
    file = folder / RUN_FILE if folder.is_dir() else folder
    try:
        return RunResult.model_validate_json(file.read_text())
    except OSError as error:
        raise LoadTestError(
            Problem(file=str(file), fact=f"cannot be read: {error.strerror}", hint="give the folder of a run")
        ) from error
    except ValueError as error:
        raise LoadTestError(
            Problem(file=str(file), fact="is not a run of this version", hint="measure again, or use its own version")
        ) from error
