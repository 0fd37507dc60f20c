"""`vllmstack doctor`: what the machine must have, what it has, and how to mend the rest."""

import json
from dataclasses import asdict

import click
from rich.markup import escape
from rich.table import Table

from vllmstack.commands.preparation import prepare
from vllmstack.console import out
from vllmstack.errors import HostError, InvalidInput
from vllmstack.host.checks import Check, docker_checks, driver_check, preflight
from vllmstack.host.containers import connect
from vllmstack.host.docker_engine import look


@click.command("doctor")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def command(name: str | None, as_json: bool) -> None:
    """Check this machine for a deployment: required, found, mend."""
    checks = _checks(name)
    failed = [check for check in checks if check.failed]
    if as_json:
        out.print_json(json.dumps([asdict(check) for check in checks]))
    else:
        _print(checks)
    if failed:
        raise SystemExit(HostError.exit_code)


NOT_CHECKED = Check(
    name="ports, GPUs, disk, token",
    required="as the deployment asks",
    found="not checked yet",
    good=False,
    mend="mend what is marked above, then run this again",
    advice_only=True,
)


def _checks(name: str | None) -> list[Check]:
    state = look()
    checks = docker_checks(state)
    try:
        prepared = prepare(name)
    except InvalidInput as error:
        plan_checks = [
            Check(
                name="deployment",
                required="valid, and fits here",
                found=": ".join(part for part in (problem.file, problem.place, problem.fact) if part),
                good=False,
                mend=problem.hint,
            )
            for problem in error.problems
        ]
        return [*checks, *plan_checks, NOT_CHECKED]
    if any(replica.gpu_ids for replica in prepared.plan.replicas):
        checks.append(driver_check())
    if state.server:
        checks += preflight(prepared.project, prepared.plan, connect())
    else:
        checks.append(NOT_CHECKED)
    checks += [
        Check(
            name="plan", required="no warning", found=warning, good=False, mend="see `vllmstack plan`", advice_only=True
        )
        for warning in prepared.plan.warnings
    ]
    return checks


def _print(checks: list[Check]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "check", "required", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        mark = "[green]✓[/green]" if check.good else "[yellow]![/yellow]" if check.advice_only else "[red]✗[/red]"
        table.add_row(mark, *map(escape, (check.name, check.required, check.found)))
    out.print(table)
    for check in checks:
        if not check.good:
            mark = "[red]✗[/red]" if check.failed else "[yellow]![/yellow]"
            out.print(f"\n{mark} {escape(f'{check.name}: {check.mend}')}", soft_wrap=True)
