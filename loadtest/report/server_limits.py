"""What limited one model's engines in one run, by their own metrics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from loadtest.clock.histogram import Histogram
from loadtest.report import wording
from loadtest.report.finding import Finding
from loadtest.results import EngineDelta, ModelFacts, RunResult, Series
from loadtest.verdict.pooling import series_of
from vllmstack.planning.engine_options import DEFAULT_UTILIZATION, whole_number

FULL_RATIO = 0.95
"""Of the KV cache: vLLM admits no request that could fill the rest."""
DEFAULT_SEQUENCES = (128, 256, 1024)
"""max_num_seqs where it is left out: on a CPU, on most GPUs, on those with 70 GiB and more (vLLM, EngineArgs)."""
HIGHEST_USUAL_UTILIZATION = 0.95
WAITING = "Waiting for a step"
MOST_OF = 0.5
NOTABLE = 0.25
NEAR_BANDWIDTH = 0.6
"""TPOT holds the scheduler's and the sampler's time as well as the weights', so that no engine reaches 1."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """One model in one run."""

    facts: ModelFacts
    engines: Sequence[EngineDelta]
    series: Series

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """As vLLM's ``--config`` names them, with ``_``."""
        return {name.replace("-", "_"): value for name, value in self.facts.options.items()}

    @property
    def on_cpu(self) -> bool:
        return self.facts.gpu is None and not self.facts.gpus_per_replica

    @property
    def waiting(self) -> int:
        return max((engine.peak_waiting for engine in self.engines), default=0)

    @property
    def running(self) -> int:
        return max((engine.peak_running for engine in self.engines), default=0)

    @property
    def kv_cache_ratio(self) -> float:
        return max((engine.peak_kv_cache_ratio for engine in self.engines), default=0.0)

    @property
    def preemptions(self) -> float:
        return sum(engine.preemptions for engine in self.engines)

    @property
    def kv_bound(self) -> bool:
        # Preemptions come from nothing else, and the peak is of samples: it may have missed the moment.
        return self.preemptions > 0 or (self.kv_cache_ratio >= FULL_RATIO and self.waiting > 0)

    @cached_property
    def max_num_seqs(self) -> int | None:
        """What is set, or the default that the running requests stopped at; None if neither is known."""
        given = self.options.get("max_num_seqs")
        if given is not None:
            return whole_number(given)
        return self.running if self.running in DEFAULT_SEQUENCES else None

    @property
    def sequences_bound(self) -> bool:
        limit = self.max_num_seqs
        return self.queued and limit is not None and self.running >= limit and not self.kv_bound

    @cached_property
    def queued(self) -> bool:
        """Whether waiting was a good part of TTFT: a sample that saw someone wait may be the start of all users."""
        waited, ttft = self.mean("queue"), self.mean("ttft")
        if waited is None or not ttft:
            return self.waiting > 0
        return self.waiting > 0 and waited >= NOTABLE * ttft

    def mean(self, name: str) -> float | None:
        """Seconds, over all engines, by the requests of each; None if no engine tells."""
        known = [(engine.mean_seconds.get(name), engine.requests) for engine in self.engines]
        weighed = [(seconds, requests) for seconds, requests in known if seconds is not None and requests > 0]
        requests = sum(weight for _, weight in weighed)
        return sum(seconds * weight for seconds, weight in weighed) / requests if requests else None

    def now(self, option: str) -> str:
        """`` (now 16)``, or nothing where the option is left out."""
        return f" (now {self.options[option]})" if self.options.get(option) is not None else ""


def served(run: RunResult) -> list[Served]:
    """Each model of which engines' metrics are at hand."""
    facts = {one.name: one for one in run.environment.models}
    names = dict.fromkeys(engine.model for engine in run.engines)
    return [
        Served(
            facts=facts.get(name, ModelFacts(name=name)),
            engines=[engine for engine in run.engines if engine.model == name],
            series=series_of(run, name),
        )
        for name in names
    ]


def server_findings(run: RunResult) -> list[Finding]:
    """What limited the engines, the strongest limits first."""
    models = served(run)
    return [
        _named(finding, model) if len(models) > 1 else finding
        for rule in RULES
        for model in models
        for finding in rule(model)
    ]


def _named(finding: Finding, model: Served) -> Finding:
    return Finding(limit=f"{finding.limit}: {model.facts.name}", evidence=finding.evidence, advice=finding.advice)


def kv_cache(model: Served) -> Iterator[Finding]:
    """Requests waited, or were thrown out, because the KV cache was full."""
    if not model.kv_bound:
        return
    evidence = [f"the KV cache was {wording.share(model.kv_cache_ratio)} full at its peak"]
    if model.waiting:
        evidence.append(f"up to {wording.plural(model.waiting, 'request')} waited while {model.running} ran")
    advice = []
    if model.on_cpu:
        advice.append("raise VLLM_CPU_KVCACHE_SPACE (GiB), if the machine has the memory")
    else:
        utilization = model.options.get("gpu_memory_utilization", DEFAULT_UTILIZATION)
        if isinstance(utilization, int | float) and utilization < HIGHEST_USUAL_UTILIZATION:
            advice.append(
                f"raise gpu_memory_utilization (now {utilization:g}) towards {HIGHEST_USUAL_UTILIZATION:g}; "
                "`vllmstack plan` shows what fits"
            )
        if not str(model.options.get("kv_cache_dtype", "auto")).startswith("fp8"):
            advice.append("kv_cache_dtype: fp8 holds twice as many tokens; compare the answers' quality")
    advice.append(
        f"lower max_model_len{model.now('max_model_len')} if requests may be shorter: long ones are refused then, "
        "instead of filling the cache"
    )
    if model.preemptions:
        evidence.append(f"{wording.plural(model.preemptions, 'preemption')}: their tokens were computed twice")
        advice.append(f"lower max_num_seqs{model.now('max_num_seqs')}: fewer requests at a time, none thrown out")
    advice.append("more replicas, or tensor_parallel_size over more GPUs" if not model.on_cpu else "more replicas")
    yield Finding(limit="KV cache", evidence=tuple(evidence), advice=tuple(advice))


def sequences(model: Served) -> Iterator[Finding]:
    """Requests waited because as many ran as may."""
    if not model.sequences_bound:
        return
    default = "" if model.options.get("max_num_seqs") is not None else ", vLLM's default"
    yield Finding(
        limit="max_num_seqs",
        evidence=(
            f"{model.running} requests ran at a time, as many as max_num_seqs allows ({model.max_num_seqs}{default}), "
            f"and up to {model.waiting} waited",
            f"the KV cache was {wording.share(model.kv_cache_ratio)} full at its peak: it has room",
        ),
        advice=(
            "raise max_num_seqs until the KV cache is nearly full; TPOT grows a little with each request in a step",
            "more replicas, if TPOT must not grow",
        ),
    )


def queue(model: Served) -> Iterator[Finding]:
    """First tokens waited in the engine's queue for a reason that is neither of the two above."""
    waited, ttft = model.mean("queue"), model.mean("ttft")
    if waited is None or not ttft or waited < MOST_OF * ttft or not model.queued:
        return
    if model.kv_bound or model.sequences_bound:
        return
    full = wording.share(model.kv_cache_ratio)
    yield Finding(
        limit=WAITING,
        evidence=(
            f"{wording.share(waited / ttft)} of the engines' TTFT was queue ({wording.seconds(waited)} of "
            f"{wording.seconds(ttft)}, means)",
            f"up to {model.waiting} requests waited, though neither the KV cache ({full}) nor max_num_seqs was full: "
            "prompts came faster than steps take them in",
        ),
        advice=(
            f"raise max_num_batched_tokens{model.now('max_num_batched_tokens')}: a step takes more prompt tokens; "
            "ITL gets less even",
            "more replicas",
        ),
    )


def prefill(model: Served) -> Iterator[Finding]:
    """Computing prompts took most of TTFT and a good part of the whole request."""
    computed, ttft, whole = model.mean("prefill"), model.mean("ttft"), model.mean("e2e")
    if computed is None or not ttft or not whole or computed < MOST_OF * ttft or computed < NOTABLE * whole:
        return
    prompt = Histogram.of(model.series.lengths_prompt).mean
    advice = []
    batched = model.now("max_num_batched_tokens")
    hits = _hit_ratio(model)
    if model.options.get("enable_prefix_caching") is False:
        advice.append("enable_prefix_caching: true, if prompts begin with the same text")
    elif hits is not None and hits < 0.1:
        advice.append("put what prompts share (system prompt, documents) first: the prefix cache computes it once")
    advice += [
        f"raise max_num_batched_tokens{batched} for a shorter TTFT; lower it for an even ITL",
        "weights in fp8, which compute faster too, or tensor_parallel_size over more GPUs"
        if not model.on_cpu
        else "more cores a replica (cpus), or a GPU",
    ]
    of_prompts = f" of {wording.number(prompt)} tokens" if prompt else ""
    yield Finding(
        limit="Prefill",
        evidence=(
            f"{wording.share(computed / ttft)} of the engines' TTFT was computing prompts{of_prompts} "
            f"({wording.seconds(computed)} of {wording.seconds(ttft)}, means)",
            f"that is {wording.share(computed / whole)} of a request's whole time",
        ),
        advice=tuple(advice),
    )


def bandwidth(model: Served) -> Iterator[Finding]:
    """Decoding was about as fast as the memory can be read."""
    weights, speed = model.facts.weights_bytes, model.facts.memory_bytes_per_second
    tpot = Histogram.of(model.series.latencies.tpot).quantile(0.5)
    if not weights or not speed or not tpot:
        return
    least = weights / speed
    if not NEAR_BANDWIDTH <= least / tpot <= 1:
        return
    advice = ["quantised weights: fp8 halves what each step reads, AWQ quarters it"]
    if model.waiting == 0:
        advice.append(
            "more requests at a time: a step reads the weights once for all of them, so throughput is free here"
        )
    advice.append("speculative_config: several tokens a step")
    if not model.on_cpu:
        advice.append("tensor_parallel_size: each GPU reads its part of the weights at the same time")
    yield Finding(
        limit="Memory bandwidth",
        evidence=(
            f"reading {wording.number(weights / 1e9)} GB of weights at {wording.number(speed / 1e12)} TB/s takes "
            f"{wording.seconds(least)}, and TPOT p50 was {wording.seconds(tpot)}: {wording.share(least / tpot)} of it",
        ),
        advice=tuple(advice),
    )


def balance(model: Served) -> Iterator[Finding]:
    """Replicas got unequal shares."""
    shares = [engine.generation_tokens for engine in model.engines if not engine.restarted]
    requests = sum(engine.requests for engine in model.engines)
    if len(shares) < 2 or requests < 50 * len(shares) or not sum(shares):
        return
    mean = sum(shares) / len(shares)
    if max(shares) - min(shares) <= NOTABLE * mean:
        return
    counts = ", ".join(f"{engine.replica}: {wording.number(engine.generation_tokens)}" for engine in model.engines)
    yield Finding(
        limit="Uneven replicas",
        evidence=(f"output tokens by replica: {counts}",),
        advice=(
            "see in `vllmstack status` whether a replica was restarted or is slower than the others",
            "long and short requests in one scenario spread unevenly in a short run: measure longer",
        ),
    )


def prefix_cache(model: Served) -> Iterator[Finding]:
    """A good part of the prompts was not computed: the numbers hold only where prompts share as much."""
    hits = _hit_ratio(model)
    if hits is None or hits < NOTABLE:
        return
    yield Finding(
        limit="Prefix cache",
        evidence=(f"{wording.share(hits)} of the prompt tokens came from the engines' prefix cache",),
        advice=("TTFT and throughput hold only for prompts that share as much: compare with a scenario that does not",),
    )


def _hit_ratio(model: Served) -> float | None:
    queries = sum(engine.prefix_queries for engine in model.engines)
    return sum(engine.prefix_hits for engine in model.engines) / queries if queries else None


RULES: tuple[Callable[[Served], Iterator[Finding]], ...] = (
    kv_cache,
    sequences,
    queue,
    prefill,
    bandwidth,
    balance,
    prefix_cache,
)
