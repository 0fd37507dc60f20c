"""All that must be known before the first request: scenario, model, tokenizer, address, key."""

import http.client
import json
import math
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from loadtest.clock.recorder import Recorder
from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.offered.arrivals import parse_steps, schedule, steps_seconds
from loadtest.offered.trace import load_trace
from loadtest.options import RunOptions
from loadtest.stack import ServedModel, StackFacts, TokenizerSource, load_stack
from loadtest.verdict.limits import limits_of
from loadtest.workload.scenario import Scenario, load_scenario
from loadtest.workload.tokenizer import load_tokenizer
from loadtest.workload.workload import Workload
from vllmstack.errors import Problem

SCENARIOS = Path(__file__).parent.parent / "scenarios"


LONGEST_SCHEDULE_SECONDS = 3600.0
"""Of an open loop that ends by its number of requests: its schedule is made before it starts."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run that can start."""

    options: RunOptions
    """With what the scenario decides filled in."""
    stack: StackFacts
    model: ServedModel
    scenario: Scenario
    workload: Workload
    url: str
    api_key: str | None

    @property
    def window_end(self) -> float:
        """Seconds after the start at which the last request is due; infinite if the number of requests decides."""
        if self.options.requests is not None or self.options.duration_seconds is None:
            return math.inf
        return self.options.warmup_seconds + self.options.duration_seconds

    def recorder(self) -> Recorder:
        """An empty one for this run; a sender's and its leader's are alike."""
        by_number = self.options.requests is not None
        return Recorder(
            window_start=0.0 if by_number else self.options.warmup_seconds,
            window_end=self.window_end,
            limits=self.options.limits,
            by_schedule=self.options.open_loop,
        )

    @property
    def expects_prefix_hits(self) -> bool:
        """Whether the prefix cache is meant to help: by the scenario, or by a trace that says what begins alike."""
        if self.scenario.expects_prefix_hits:
            return True
        return self.options.arrivals == "trace" and any(arrival.prefix_blocks for arrival in self.arrivals)

    @cached_property
    def arrivals(self) -> list[Arrival]:
        """The open loop's schedule, warm-up included; a trace is read once."""
        options = self.options
        if options.arrivals == "trace":
            assert options.trace
            trace = load_trace(Path(options.trace), speed=options.trace_speed)
            return [arrival for arrival in trace if arrival.at < self.window_end]
        steps = parse_steps(options.steps) if options.arrivals == "steps" and options.steps else None
        return schedule(
            options.arrivals,
            rate=options.rate or 0.0,
            duration_seconds=min(self.window_end, options.warmup_seconds + LONGEST_SCHEDULE_SECONDS),
            seed=options.seed,
            burstiness=options.burstiness,
            until_rate=options.until_rate,
            steps=steps,
            requests=options.requests,
        )


def prepare_run(options: RunOptions, *, salt: str = "") -> PreparedRun:
    """Reads files; asks no server. ``salt`` makes the run's prompts its own: no cache knows them from an earlier one.

    Raises:
        LoadTestError: unknown scenario or model, wrong parameters, no tokenizer, a prompt that does not fit.
    """
    if not options.stack:
        raise LoadTestError(
            Problem(
                place="--stack", fact="what is measured is not known", hint="give a deployment's loadtest/stack.json"
            )
        )
    stack = load_stack(Path(options.stack))
    model = stack.model(options.model)
    scenario = load_scenario(options.scenario, folder=SCENARIOS).with_parameters(options.parameters)
    source = TokenizerSource(directory=str(Path(options.tokenizer).resolve())) if options.tokenizer else model.tokenizer
    tokenizer = load_tokenizer(source, relative_to=Path(options.stack).parent, options=model.options)
    options = with_defaults(options, scenario)
    workload = Workload(scenario, model=model, tokenizer=tokenizer, seed=options.seed, salt=salt)
    return PreparedRun(
        options=options,
        stack=stack,
        model=model,
        scenario=scenario,
        workload=workload,
        url=(options.url or stack.url).rstrip("/"),
        api_key=read_key(options.api_key_file),
    )


def with_defaults(options: RunOptions, scenario: Scenario) -> RunOptions:
    """What was left open, as the scenario has it."""
    changes: dict[str, object] = {}
    own = scenario.load
    if options.duration_seconds is None and options.requests is None and options.arrivals in ("steps", "trace"):
        changes["duration_seconds"] = _schedule_seconds(options) - options.warmup_seconds
        return options.model_copy(update=changes)
    if options.rate is None and options.concurrency is None and not options.open_loop:
        changes["concurrency"], changes["rate"] = own.concurrency, own.requests_per_second
    if options.requests is None and options.duration_seconds is None:
        changes["requests"] = scenario.requests
        if scenario.requests is None:
            changes["duration_seconds"] = own.duration_seconds
    return options.model_copy(update=changes)


def _schedule_seconds(options: RunOptions) -> float:
    """How long a schedule lasts that has an end of its own."""
    if options.arrivals == "steps":
        return steps_seconds(parse_steps(options.steps or ""))
    trace = load_trace(Path(options.trace or ""), speed=options.trace_speed)
    # The last one is due inside the window too.
    return max((arrival.at for arrival in trace), default=0.0) + 0.001


def with_limits(options: RunOptions) -> RunOptions:
    """With the latency limits of the deployment's first target of the scenario, where none were given.

    Raises:
        LoadTestError: what is measured is not known.
    """
    if options.limits or not options.stack:
        return options
    for target in load_stack(Path(options.stack)).model(options.model).targets:
        if target.scenario == options.scenario and limits_of(target):
            return options.model_copy(update={"limits": limits_of(target)})
    return options


def read_key(file: str | None) -> str | None:
    """The key that is the file's only text; None if there is none.

    Raises:
        LoadTestError: the file cannot be read, or holds something else.
    """
    if not file:
        return None
    hint = "give a file with nothing but the key"
    try:
        words = Path(file).read_text("utf-8").split()
    except OSError as error:
        raise LoadTestError(Problem(file=file, fact=f"cannot be read: {error.strerror}", hint=hint)) from error
    except UnicodeDecodeError as error:
        raise LoadTestError(Problem(file=file, fact="is not a text file", hint=hint)) from error
    if len(words) > 1:
        raise LoadTestError(Problem(file=file, fact=f"has {len(words)} words, where one key belongs", hint=hint))
    return words[0] if words else None


def check_server(run: PreparedRun, timeout_seconds: float = 10.0) -> None:
    """Asks for the model list: the server is there, takes the key, and serves the model.

    Raises:
        LoadTestError: one of these is not so.
    """
    headers = {"Authorization": f"Bearer {run.api_key}"} if run.api_key else {}
    request = urllib.request.Request(f"{run.url}/v1/models", headers=headers)  # noqa: S310 - http(s), from the stack
    # The gateway's own certificate is often made by the user; what is measured is not the certificate.
    context = ssl._create_unverified_context()  # noqa: S323
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds, context=context) as answer:  # noqa: S310
            listed = {model["id"] for model in json.load(answer)["data"]}
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            fact, hint = (
                f"{run.url} refuses the API key ({error.code})",
                "give a file with the right one by --api-key-file",
            )
            if run.api_key is None:
                fact, hint = (
                    f"{run.url} asks for an API key ({error.code})",
                    "give a file with one by --api-key-file",
                )
        else:
            fact, hint = f"{run.url}/v1/models answers {error.code}", "see `vllmstack status` and `vllmstack logs`"
        raise LoadTestError(Problem(fact=fact, hint=hint)) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        hint = "run `vllmstack up`, or look at `vllmstack status`"
        raise LoadTestError(Problem(fact=f"{run.url} cannot be reached: {reason}", hint=hint)) from error
    except (ValueError, KeyError, TypeError) as error:
        fact = f"{run.url}/v1/models is not an OpenAI model list"
        raise LoadTestError(Problem(fact=fact, hint="give the gateway's URL, without /v1")) from error
    if run.model.name not in listed:
        hint = f"it serves: {', '.join(sorted(listed))}"
        raise LoadTestError(Problem(fact=f"{run.url} does not serve {run.model.name!r}", hint=hint))
