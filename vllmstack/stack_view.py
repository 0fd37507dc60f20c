"""The running stack in figures, made of Prometheus' answer to ``stack_queries.question``."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vllmstack.stack_queries import FIGURE


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """One model; rates and quantiles are over the window. None: no traffic, or nobody who could say."""

    model: str
    requests_per_second: float | None = None
    errors_per_second: float | None = None
    """Answers with a 5xx status."""
    refused_per_second: float | None = None
    """Answers with the status 429."""
    in_flight: float | None = None
    """Requests that were given to a replica and have not ended."""
    queued: float | None = None
    """Requests that wait at the gateway."""
    ttft_p50_seconds: float | None = None
    ttft_p95_seconds: float | None = None
    tpot_p50_seconds: float | None = None
    tpot_p95_seconds: float | None = None
    output_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    prefix_hit_ratio: float | None = None
    within_targets_ratio: float | None = None
    """Share of requests within the latency limit that is missed most, over five minutes: those that keep every limit
    are at most so many. None where the deployment has no such target."""


@dataclass(frozen=True, kw_only=True)
class ReplicaFigures:
    """One replica: the gateway's view of it, and its own."""

    replica: str
    """The engine's Compose service."""
    model: str
    up: float | None = None
    """1: Prometheus reads its metrics."""
    takes_requests: float | None = None
    """1: the gateway gives it requests."""
    answers: float | None = None
    """1: it answered the gateway's last health check."""
    running: float | None = None
    waiting: float | None = None
    kv_cache_ratio: float | None = None
    """Share of the KV cache in use; of the fullest data-parallel rank."""
    output_tokens_per_second: float | None = None
    preemptions_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class GpuFigures:
    """One GPU of the host."""

    gpu: str
    utilization_ratio: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert that fires."""

    name: str
    severity: str
    labels: Mapping[str, str]
    """All others, those that say of what it is."""


@dataclass(frozen=True, kw_only=True)
class StackView:
    """Everything that `vllmstack top` shows."""

    models: tuple[ModelFigures, ...] = ()
    replicas: tuple[ReplicaFigures, ...] = ()
    gpus: tuple[GpuFigures, ...] = ()
    alerts: tuple[Alert, ...] = field(default=())

    @property
    def replicas_that_take_requests(self) -> int:
        return sum(one.takes_requests == 1 for one in self.replicas)


def view_of(samples: Iterable[Sample]) -> StackView:
    """Models, replicas and GPUs in the order of their names, where 10 comes after 2."""
    by_model: dict[str, dict[str, float | None]] = {}
    by_replica: dict[tuple[str, str], dict[str, float | None]] = {}
    by_gpu: dict[str, dict[str, float | None]] = {}
    alerts = []
    for sample in samples:
        labels = sample.labels
        level, _, name = labels.get(FIGURE, "").partition(".")
        value = sample.value if math.isfinite(sample.value) else None
        model = labels.get("model", "")
        if level == "model":
            by_model.setdefault(model, {})[name] = value
        elif level == "replica":
            by_model.setdefault(model, {})
            by_replica.setdefault((model, labels.get("replica", "")), {})[name] = value
        elif level == "gpu":
            by_gpu.setdefault(labels.get("gpu", ""), {})[name] = value
        elif level == "alert":
            alerts.append(_alert(labels))
    return StackView(
        models=tuple(_model(model, by_model[model]) for model in sorted(by_model, key=_natural)),
        replicas=tuple(
            ReplicaFigures(model=model, replica=replica, **_known(ReplicaFigures, by_replica[model, replica]))
            for model, replica in sorted(by_replica, key=lambda key: (_natural(key[0]), _natural(key[1])))
        ),
        gpus=tuple(GpuFigures(gpu=gpu, **_known(GpuFigures, by_gpu[gpu])) for gpu in sorted(by_gpu, key=_natural)),
        alerts=tuple(sorted(alerts, key=lambda alert: (alert.name, sorted(alert.labels.items())))),
    )


def _model(model: str, values: dict[str, float | None]) -> ModelFigures:
    figures = _known(ModelFigures, values)
    # A status that never occurred has no series; where the gateway tells of the model at all, that is none a second.
    if figures.get("in_flight") is not None:
        for name in ("requests_per_second", "errors_per_second", "refused_per_second"):
            figures.setdefault(name, 0.0)
    return ModelFigures(model=model, **figures)


def _alert(labels: Mapping[str, str]) -> Alert:
    told = ("__name__", "alertname", "alertstate", "severity", FIGURE)
    return Alert(
        name=labels.get("alertname", ""),
        severity=labels.get("severity", ""),
        labels={name: labels[name] for name in sorted(labels) if name not in told},
    )


def _known(kind: type[Any], values: Mapping[str, float | None]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """For sorting: numbers within the name count as numbers."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
