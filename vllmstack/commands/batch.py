"""`vllmstack batch`: many requests from a file, in OpenAI's batch format."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import httpx2
import yaml

from vllmstack.batch.journal import Journal
from vllmstack.batch.lines import BadLine, Request, parse
from vllmstack.batch.runner import Runner
from vllmstack.batch.source import Source, read_again, survey
from vllmstack.commands.batch_progress import BatchProgress
from vllmstack.console import step, warn
from vllmstack.deployment.options import underscored
from vllmstack.deployment.serve_checks import serve_problems
from vllmstack.errors import EXIT_FAILED, InvalidInput, Problem, StackError
from vllmstack.host.gateway_client import ON_THIS_HOST, check_address, trusts_environment
from vllmstack.host.processes import interruptible
from vllmstack.host.running import running_key, running_url
from vllmstack.project import find_project


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Who answers."""

    url: str
    key: str | None
    verify: bool = True
    """Whether its certificate is checked: the stack's own gateway is at an address that it hardly names."""
    trust_env: bool = False
    ended: Callable[[], StackError | None] = lambda: None
    """Why it never answers again; None while it may."""
    hint: str = "`vllmstack status` shows why"
    """Where to look when it does not answer."""


@click.group("batch")
def command() -> None:
    """Answer a file of requests."""


@command.command("run")
@click.argument("source", metavar="INPUT.jsonl", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="For answers.  [INPUT.answers.jsonl]")
@click.option(
    "--errors", type=click.Path(path_type=Path), metavar="FILE", help="For lines without one.  [INPUT.errors.jsonl]"
)
@click.option(
    "--concurrency", type=click.IntRange(min=1, max=4096), default=64, show_default=True, metavar="N",
    help="Requests at a time.",
)  # fmt: skip
@click.option("--model", help="For lines whose body names none.")
@click.option("--url", help="Another server than the stack's gateway.")
@click.option("--offline", metavar="MODEL", help="Without a stack: a vLLM of its own, for this batch.")
@click.option("--option", "options", metavar="NAME=VALUE", multiple=True, help="Of `vllm serve`, with --offline.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=600, show_default=True, metavar="SECONDS",
    help="Of one request.",
)  # fmt: skip
@click.option(
    "--patience", type=click.FloatRange(min=0), default=600, show_default=True, metavar="SECONDS",
    help="Of failures without any answer, until it gives up.",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Send lines that failed once more.")
def run(
    source: Path,
    *,
    output: Path | None,
    errors: Path | None,
    concurrency: int,
    model: str | None,
    url: str | None,
    offline: str | None,
    options: tuple[str, ...],
    timeout: float,
    patience: float,
    again: bool,
) -> None:
    """Answer every line of INPUT.jsonl, which has OpenAI's batch format.

    Answers are written as they come, in any order; each carries its line's
    `custom_id`. A run that was ended, by whatever, goes on where it was when it
    is started again: no line is answered twice, and none is lost. Status 1 if
    lines have no answer.
    """
    if offline is not None and url is not None:
        raise InvalidInput(Problem(fact="--offline and --url both say who answers", hint="leave one out"))
    if options and offline is None:
        raise InvalidInput(Problem(fact="--option is of an engine of one's own", hint="add --offline MODEL"))
    if url is not None:
        check_address(url, f"--url {url}")
    if not source.name:  # as "" has none either, which a variable that is not set leaves
        raise InvalidInput(Problem(file=str(source), fact="is a folder", hint="name a file of requests"))
    answers = output or source.with_name(f"{source.stem}.answers.jsonl")
    failures = errors or source.with_name(f"{source.stem}.errors.jsonl")
    asked = survey(source, answers.parent)
    with interruptible(), Journal(asked, answers, failures, again=again) as journal:
        if journal.done.count:
            step(f"{journal.done.count:,} of {asked.lines:,} lines are done already")
        if journal.done.count < asked.lines:
            try:
                with _engine(url, offline, model, options) as engine:
                    named = model or offline
                    sending = _send(asked, journal, engine, named, concurrency, timeout=timeout, patience=patience)
                    asyncio.run(sending)
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            except BaseExceptionGroup as group:
                # Of all requests that give up at the same time, one says it.
                raise next(_leaves(group)) from None
            finally:
                step(f"{journal.done.count - journal.failed:,} answers in {answers}")
        else:
            step(f"{journal.done.count - journal.failed:,} answers in {answers}")
        journal.sync()
        if journal.failed:
            warn(f"{journal.failed:,} lines have no answer: {failures} says why; `--again` sends them once more")
            sys.exit(EXIT_FAILED)
        journal.drop_errors()


@contextlib.contextmanager
def _engine(url: str | None, offline: str | None, model: str | None, options: tuple[str, ...]) -> Iterator[Engine]:
    """Who answers, for as long as it is needed."""
    if offline is not None:
        from vllmstack.serving.server import start_server

        # The answers of the very server that a stack has, in its format, from the same code: nobody else knows the port
        # and the key, and it ends with this command.
        names = list(dict.fromkeys([offline, model] if model else [offline]))
        given = _options(options)
        step(f"starting vLLM with {offline}")
        key = secrets.token_urlsafe()
        with start_server(offline, 0, wait=True, api_key=key, served_model_name=names, **given) as server:
            base_url, hint = server.base_url.removesuffix("/v1"), f"look at vLLM's output, {server.log}"
            yield Engine(url=base_url, key=key, ended=server.ended, hint=hint)
        return
    key_given = os.environ.get("VLLMSTACK_API_KEY")
    if url is not None:
        hint = f"look at what answers at {url}"
        base_url = url.rstrip("/").removesuffix("/v1")
        yield Engine(url=base_url, key=key_given, trust_env=trusts_environment(url), hint=hint)
        return
    project = find_project()
    yield Engine(url=running_url(project), key=key_given or running_key(project), verify=ON_THIS_HOST["verify"])


def _options(written: tuple[str, ...]) -> dict[str, Any]:
    """``--option enforce_eager=true``; values are read as a deployment file's would be."""
    found: dict[str, Any] = {}
    problems = []
    for one in written:
        name, equals, value = one.partition("=")
        try:
            found[underscored(name)] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not name or not equals:
            problems.append(Problem(fact=f"--option {one}: is no NAME=VALUE", hint="write max_model_len=4096"))
    problems = problems or [replace(one, place=f"--option {one.place}") for one in serve_problems(found)]
    if problems:
        raise InvalidInput(problems)
    return found


async def _send(
    source: Source,
    journal: Journal,
    engine: Engine,
    model: str | None,
    concurrency: int,
    *,
    timeout: float,
    patience: float,
) -> None:
    # An exception that a signal's handler raises could end any task in its midst: as asyncio does for Ctrl-C, so here.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if task and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(number, task.cancel)
    headers = {"Authorization": f"Bearer {engine.key}"} if engine.key else {}
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    with BatchProgress(source.lines, journal) as progress:
        async with httpx2.AsyncClient(
            base_url=engine.url,
            headers=headers,
            timeout=timeout,
            limits=limits,
            verify=engine.verify,
            trust_env=engine.trust_env,
        ) as client:
            runner = Runner(
                client=client,
                journal=journal,
                concurrency=concurrency,
                patience_seconds=patience,
                ended=engine.ended,
                hint=engine.hint,
                moved=progress.moved,
            )
            await runner.run(_left(source, journal, model))


def _left(source: Source, journal: Journal, model: str | None) -> Iterator[Request | BadLine]:
    for number, line in read_again(source):
        if number not in journal.done:
            yield parse(number, line, model, repeated=number in source.repeated)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
