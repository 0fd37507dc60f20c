"""`vllmstack plan`: which replica gets which GPUs, and what their memory goes to, before anything starts."""

import json
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from vllmstack.commands import plan_load
from vllmstack.commands.preparation import prepare
from vllmstack.console import out, warn
from vllmstack.deployment.model import Engine
from vllmstack.errors import InvalidInput, Problem
from vllmstack.planning.budget import MemoryBudget
from vllmstack.planning.gpus import GIB, gpu_types
from vllmstack.planning.placement import Replica
from vllmstack.planning.plan import Plan
from vllmstack.prediction.goal import parse_goals
from vllmstack.prediction.load import EXAMPLE as LOAD_EXAMPLE
from vllmstack.prediction.load import parse_load

BAR_CELLS = 30


@click.command("plan", epilog=f"GPU types: {', '.join(gpu_types())}.")
@click.argument("name", required=False)
@click.option("--gpu", "gpu_name", metavar="TYPE", help="Plan for GPUs of this type instead of those seen here.")
@click.option("--load", metavar="LOAD", help='Predict a load: "30 rps, 1000 in, 300 out".')
@click.option("--target", metavar="LIMITS", help='What is enough: "ttft_p95<300ms, tpot_p50<20ms".')
@click.option("--model", metavar="NAME", help="Predict this model or alias, not the first.")
@click.option(
    "--acceptance", type=click.FloatRange(0, 0.99), metavar="CHANCE",
    help="That a token it proposes is accepted, where it speculates.",
)  # fmt: skip
@click.option(
    "--price", type=click.FloatRange(min=0), metavar="AMOUNT", help="Of a GPU-hour: tells what a million tokens cost."
)
@click.option("--curve", is_flag=True, help="Predict lighter and heavier loads too.")
@click.option("--json", "as_json", is_flag=True, help="For scripts; sizes are in bytes.")
def command(*, name: str | None, gpu_name: str | None, as_json: bool, load: str | None, **asked: Any) -> None:
    """Show a deployment's GPUs and memory before anything starts.

    NAME is as for `vllmstack up`. No GPU is needed: --gpu names the type.

    With --load it predicts how fast it will answer, whether the targets are
    met, and how many GPUs or which option would do. A load is requests a second
    (`30 rps`) or users who each wait for their answer (`64 users`), and the mean
    tokens of a prompt (`1000 in`) and of its answer (`300 out`). --target,
    --model, --acceptance, --price and --curve go with it.
    """
    question = _question(load, **asked)
    prepared = prepare(name, gpu_name)
    if question is not None:
        found = plan_load.answer(prepared, question)
        (plan_load.print_answer_json if as_json else plan_load.print_answer)(found)
        return
    plan = prepared.plan
    if as_json:
        out.print_json(json.dumps(plan_document(plan)))
        return
    print_plan(plan)


def _question(load: str | None, *, target: str | None, **asked: Any) -> plan_load.Question | None:
    """What --load and its options ask; None without it.

    Raises:
        InvalidInput: with everything in them that is not understood.
    """
    if load is None:
        given = [f"--{name}" for name, value in {"target": target, **asked}.items() if value]
        if given:
            fact = f"{', '.join(given)} {'says' if len(given) == 1 else 'say'} nothing without --load"
            raise InvalidInput(Problem(place=given[0], fact=fact, hint=f"add --load {LOAD_EXAMPLE}"))
        return None
    problems: list[Problem] = []
    parsed: list[Any] = []
    for parse, text in ((parse_load, load), (parse_goals, target)):
        try:
            parsed.append(parse(text) if text is not None else ())
        except InvalidInput as wrong:
            problems += wrong.problems
    if problems:
        raise InvalidInput(problems)
    return plan_load.Question(load=parsed[0], goals=parsed[1], **asked)


def print_plan(plan: Plan) -> None:
    """The placement, a table of memory for each model, and every warning; 80 columns."""
    out.print(f"[bold]{escape(plan.deployment.name)}[/bold]")
    out.print(_placement(plan))
    for name, budget in plan.budgets.items():
        out.print()
        _print_budget(name, budget)
    for warning in plan.warnings:
        warn(warning)


def _placement(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "replica", "on"):
        table.add_column(heading, overflow="fold")
    for replica in plan.replicas:
        table.add_row(escape(replica.model.name), replica.service, _where(replica))
    return table


def _where(replica: Replica) -> str:
    cpu = replica.model.engine is Engine.VLLM_CPU
    ids = replica.cpu_ids if cpu else replica.gpu_ids
    word = "core" if cpu else "GPU"
    return f"{word}{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids))}"


def _print_budget(name: str, budget: MemoryBudget) -> None:
    each = f"{budget.device} of each replica" if budget.device == "host memory" else f"each {budget.device}"
    out.print(f"[bold]{escape(name)}[/bold]: {each}, {budget.total_bytes / GIB:.1f} GiB")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for part, size_bytes in budget.parts:
        if size_bytes:
            table.add_row(part, f"{size_bytes / GIB:.2f} GiB", _bar(size_bytes, budget.total_bytes))
    out.print(table)
    sequences = budget.full_length_sequences
    out.print(
        f"{budget.kv_cache_tokens:,} tokens of KV cache: "
        f"{sequences:,.1f} sequences of {budget.max_model_len:,} tokens at a time"
    )


def _bar(size_bytes: int, total_bytes: int) -> str:
    return "█" * max(1, round(BAR_CELLS * size_bytes / total_bytes)) if size_bytes > 0 else ""


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: replicas, and for each model the budget in bytes and tokens."""
    return {
        "deployment": plan.deployment.name,
        "assumed_gpu": plan.inventory.assumed if plan.inventory else None,
        "replicas": [
            {
                "model": replica.model.name,
                "service": replica.service,
                "gpu_ids": list(replica.gpu_ids),
                "cpu_ids": list(replica.cpu_ids),
            }
            for replica in plan.replicas
        ],
        "memory": {name: _budget_document(budget) for name, budget in plan.budgets.items()},
        "warnings": list(plan.warnings),
    }


def _budget_document(budget: MemoryBudget) -> dict[str, Any]:
    sizes = {f"{part.lower().replace(' ', '_')}_bytes": size_bytes for part, size_bytes in budget.parts}
    return {
        "device": budget.device,
        "devices": budget.devices,
        "total_bytes": budget.total_bytes,
        "requested_bytes": budget.requested_bytes,
        **sizes,
        "kv_bytes_per_token": budget.kv_bytes_per_token,
        "kv_cache_tokens": budget.kv_cache_tokens,
        "max_model_len": budget.max_model_len,
        "full_length_sequences": round(budget.full_length_sequences, 2),
    }
