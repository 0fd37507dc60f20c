"""`vllmstack plan --load`: what a deployment will do under a load, whether that is enough, and what would be."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from vllmstack.commands.preparation import Prepared
from vllmstack.console import notes, out, warn
from vllmstack.deployment.model import Engine, Model
from vllmstack.errors import InvalidInput, Problem
from vllmstack.planning.engine_options import read_options, release_of
from vllmstack.planning.gpus import gpu_types
from vllmstack.planning.placement import gpus_per_replica
from vllmstack.prediction.design import Design, Speculation
from vllmstack.prediction.efficiency import Calibration, calibration
from vllmstack.prediction.forecast import Forecast, forecast
from vllmstack.prediction.goal import Goal
from vllmstack.prediction.load import Load
from vllmstack.prediction.sizing import Option, curve, improvements, limit, sizes

NGRAM_METHODS = ("ngram", "suffix")
BAR_CELLS = 24
SHOWN = ("p50", "p90", "p95", "p99")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What `plan --load` was asked."""

    load: Load
    goals: tuple[Goal, ...] = ()
    model: str | None = None
    acceptance: float | None = None
    price: float | None = None
    """Of a GPU-hour, in whatever currency."""
    curve: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The prediction of the deployment as it is, and of what was tried instead."""

    model: str
    question: Question
    calibration: Calibration
    now: Option
    reason: str
    options: tuple[Option, ...] = ()
    """The same GPUs, one option changed."""
    sizes: tuple[Option, ...] = ()
    """Other numbers of GPUs that meet the targets, fewest first."""
    curve: tuple[tuple[Load, Forecast], ...] = ()
    """The deployment as it is under lighter and heavier loads."""


def answer(prepared: Prepared, question: Question) -> Answer:
    """Simulates the deployment, and alternatives where there is a target.

    Raises:
        InvalidInput: no such model, one that runs on no GPU of the table, or a load that does not fit it.
    """
    model = _model(prepared, question.model)
    design = _design(prepared, model, question)
    if question.load.longest_tokens > design.budget.max_model_len:
        raise InvalidInput(
            Problem(
                place="--load",
                fact=f"requests have up to {question.load.longest_tokens:,} tokens, and {model.name} takes "
                f"{design.budget.max_model_len:,}",
                hint="ask for less, write `fixed` so that no request is longer than the mean, or raise max_model_len",
            )
        )
    efficiency = calibration().efficiency
    replicas = len([one for one in prepared.plan.replicas if one.model is model])
    seen = forecast(question.load, design.profile(efficiency), replicas=replicas)
    meets = seen.meets(question.goals)
    return Answer(
        model=model.name,
        question=question,
        calibration=calibration(),
        now=Option(design=design, forecast=seen, meets=meets),
        reason=limit(question.load, design, replicas, efficiency),
        options=() if meets else tuple(improvements(question.load, design, replicas, question.goals, efficiency)),
        sizes=tuple(sizes(question.load, design, question.goals, efficiency)) if question.goals or not meets else (),
        curve=tuple(curve(question.load, design, replicas, efficiency)) if question.curve else (),
    )


def _model(prepared: Prepared, name: str | None) -> Model:
    models = prepared.deployment.models
    for model in models:
        if name is None or name == model.name or name in model.aliases:
            return model
    known = ", ".join(model.name for model in models)
    raise InvalidInput(Problem(place="--model", fact=f"the deployment has no model {name!r}", hint=f"it has: {known}"))


def _design(prepared: Prepared, model: Model, question: Question) -> Design:
    dimensions = prepared.dimensions.get(model.name)
    ids = {gpu for one in prepared.plan.replicas if one.model is model for gpu in one.gpu_ids}
    seen = [gpu for gpu in (prepared.plan.inventory.gpus if prepared.plan.inventory else ()) if gpu.id in ids]
    kinds = {gpu.short_name for gpu in seen}
    fact = hint = ""
    if model.engine is Engine.VLLM_CPU:
        fact, hint = f"{model.name} is served on a CPU", "predictions are for GPUs of the table"
    elif not seen:
        fact, hint = "no GPU is seen here", f"name one: --gpu {next(iter(gpu_types()))}"
    elif not kinds <= gpu_types().keys():
        fact, hint = f"{', '.join(kinds)} is not in the table of GPUs", f"it has {', '.join(gpu_types())}: --gpu TYPE"
    elif dimensions is None:
        fact, hint = f"the dimensions of {model.name} are not known here", "give source/directory with a config.json"
    if fact or dimensions is None:
        raise InvalidInput(Problem(place="--load", file=prepared.file, fact=fact, hint=hint))
    return Design(
        model=dimensions,
        options=read_options(model.serve),
        gpu=gpu_types()[sorted(kinds)[0]],
        release=release_of(prepared.deployment.images.get("engine")),
        gpus_per_replica=gpus_per_replica(model),
        speculation=_speculation(model, question.acceptance, prepared.file),
    )


def _speculation(model: Model, acceptance: float | None, file: str) -> Speculation | None:
    config = model.serve.get("speculative_config") or model.serve.get("speculative-config")
    if not isinstance(config, dict):
        return None
    if acceptance is None:
        raise InvalidInput(
            Problem(
                place="--acceptance",
                file=file,
                fact=f"{model.name} speculates, and how often its proposals are accepted depends on the traffic",
                hint="give the chance that a proposed token is accepted: --acceptance 0.7 (vLLM logs it)",
            )
        )
    method = str(config.get("method", ""))
    tokens = config.get("num_speculative_tokens", 1)
    if not isinstance(tokens, int) or tokens < 1:
        fact, hint = f"num_speculative_tokens of {model.name} is {tokens!r}", "write how many tokens are proposed"
        raise InvalidInput(Problem(place="serve/speculative_config", file=file, fact=fact, hint=hint))
    if method in NGRAM_METHODS:
        return Speculation(tokens=tokens, acceptance=acceptance, draft_ratio=0.0)
    return Speculation(tokens=tokens, acceptance=acceptance)


def print_answer(found: Answer) -> None:
    """For people; 80 columns."""
    design, seen = found.now.design, found.now.forecast
    replicas = f"{seen.replicas} replica{'s' * (seen.replicas > 1)} of {design.gpus_per_replica} × {design.gpu.name}"
    out.print(f"[bold]{escape(found.model)}[/bold] on {replicas}, {found.question.load}")
    if not seen.keeps_up:
        out.print("It does not keep up: requests wait longer and longer.")
    else:
        out.print(_latencies(seen))
    out.print(f"{seen.tokens_per_second:,.0f} output tokens/s, {seen.requests_per_second:,.1f} requests/s; "
              f"replicas at work {seen.busy_ratio:.0%} of the time")  # fmt: skip
    out.print(f"KV cache held at most {seen.held_ratio:.0%}, {seen.wasted_ratio:.1%} of that empty; "
              f"{seen.preemptions} preemptions")  # fmt: skip
    out.print(f"What limits it: {found.reason}")
    out.print(_cost(found.now, found.question.price))
    _print_verdict(found)
    if found.curve:
        out.print()
        out.print(_curve(found.curve))
    told = found.calibration
    tokens, tpot, ttft = told.throughput, told.tpot, told.ttft_p95
    notes.print(
        f"Simulated; calibrated on {told.made_on}. In 19 of 20 measured runs it was within {tokens.usual:.0%} of "
        f"tokens/s, {tpot.usual:.0%} of TPOT p50 and {ttft.usual:.0%} of TTFT p95; in all {told.runs} within "
        f"{tokens.most:.0%}, {tpot.most:.0%} and {ttft.most:.0%}. {told.runs_in_view} of them were in view while it "
        "was made; small models, whose speed is the host's, are predicted less well (docs/reference/prediction.md).",
        markup=False,
    )
    if "H200" not in design.gpu.name:
        warn(f"{design.gpu.name} was not measured: its datasheet stands in")


def _print_verdict(found: Answer) -> None:
    goals = found.question.goals
    for goal in goals:
        met = found.now.forecast.keeps_up and goal.met_by(found.now.forecast.value(goal))
        out.print(f"{'meets ' if met else 'misses'} {goal}")
    if found.options:
        out.print()
        out.print("With one option changed:")
        out.print(_choices(found.options, goals, by_change=True))
    if found.sizes:
        out.print()
        out.print("Fewest GPUs that keep up" + (" and meet it all:" if goals else ":"))
        out.print(_choices(found.sizes, goals, by_change=False))
    elif goals or not found.now.meets:
        out.print("No number of these GPUs meets it.")


def _latencies(seen: Forecast) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("ms")
    for name in ("mean", *SHOWN):
        table.add_column(name, justify="right")
    for figure, values in seen.latencies.items():
        cells = [f"{values[name] * 1000:,.1f}" if figure == "tpot" else f"{values[name] * 1000:,.0f}" for name in
                 ("mean", *SHOWN)]  # fmt: skip
        table.add_row(figure.upper(), *cells)
    return table


def _choices(options: Sequence[Option], goals: Sequence[Goal], *, by_change: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("change" if by_change else "replicas × GPUs", overflow="fold")
    for goal in goals[:2]:
        table.add_column(
            goal.figure if goal.figure == "tokens" else f"{goal.figure}_{goal.percentile}", justify="right"
        )
    table.add_column("tokens/s", justify="right")
    table.add_column("")
    for option in options:
        own = option.design.change if by_change else f"{option.forecast.replicas} × {option.design.gpus_per_replica}"
        cells = [_shown(option.forecast, goal) for goal in goals[:2]]
        verdict = "meets" if option.meets else "misses"
        table.add_row(own, *cells, f"{option.forecast.tokens_per_second:,.0f}", verdict)
    return table


def _curve(points: Sequence[tuple[Load, Forecast]]) -> Table:
    """Tokens a second as bars; what has no end of its queue is said to grow."""
    table = Table(box=None, pad_edge=False)
    for name in ("load", "TTFT p95", "TPOT p50", "tokens/s"):
        table.add_column(name, justify="right")
    table.add_column("")
    most = max(seen.tokens_per_second for _, seen in points) or 1.0
    for load, seen in points:
        ttft = f"{seen.latencies['ttft']['p95'] * 1000:,.0f} ms" if seen.keeps_up else "grows"
        bar = "█" * max(1, round(BAR_CELLS * seen.tokens_per_second / most))
        tpot = f"{seen.latencies['tpot']['p50'] * 1000:,.1f} ms"
        table.add_row(load.amount, ttft, tpot, f"{seen.tokens_per_second:,.0f}", bar)
    return table


def _shown(seen: Forecast, goal: Goal) -> str:
    if not seen.keeps_up:
        return "grows"
    value = seen.value(goal)
    return f"{value:,.0f}" if goal.figure == "tokens" else f"{value * 1000:,.1f} ms"


def _cost(option: Option, price: float | None) -> str:
    hours = option.gpu_hours_per_million
    text = f"A million output tokens at this load: {hours:.2f} GPU-hours"
    return f"{text}, {hours * price:.2f} at {price:g} an hour" if price else f"{text} (--price: in money)"


def answer_document(found: Answer) -> dict[str, Any]:
    """As JSON: seconds, tokens a second."""
    told = found.calibration
    return {
        "model": found.model,
        "load": str(found.question.load),
        "targets": [str(goal) for goal in found.question.goals],
        "meets": found.now.meets,
        "limited_by": found.reason,
        "now": _option_document(found.now, found.question),
        "options": [_option_document(one, found.question) for one in found.options],
        "sizes": [_option_document(one, found.question) for one in found.sizes],
        "curve": [{"load": str(load), **_forecast_document(seen)} for load, seen in found.curve],
        "calibration": {
            "made_on": told.made_on,
            "errors": {
                "tokens_per_second": asdict(told.throughput), "tpot_p50": asdict(told.tpot),
                "ttft_p95": asdict(told.ttft_p95),
            },
        },
    }  # fmt: skip


def _option_document(option: Option, question: Question) -> dict[str, Any]:
    seen = option.forecast
    hours = option.gpu_hours_per_million
    return {
        "change": option.design.change,
        "replicas": seen.replicas,
        "gpus_per_replica": option.design.gpus_per_replica,
        "gpu": option.design.gpu.name,
        "meets": option.meets,
        **_forecast_document(seen),
        "gpu_hours_per_million_output_tokens": hours,
        "cost_per_million_output_tokens": hours * question.price if question.price else None,
    }


def _forecast_document(seen: Forecast) -> dict[str, Any]:
    return {
        "keeps_up": seen.keeps_up,
        "output_tokens_per_second": seen.tokens_per_second,
        "requests_per_second": seen.requests_per_second,
        "latency_seconds": seen.latencies,
        "busy_ratio": seen.busy_ratio,
        "preemptions": seen.preemptions,
        "kv_cache_held_ratio": seen.held_ratio,
        "kv_cache_wasted_ratio": seen.wasted_ratio,
    }


def print_answer_json(found: Answer) -> None:
    """For scripts."""
    out.print_json(json.dumps(answer_document(found)))
