"""`vllmstack chat`: talks to a model through the gateway and shows what a user would feel."""

import os
import sys
from typing import Any

import click
import httpx2
import openai

from vllmstack.console import notes
from vllmstack.errors import StackError
from vllmstack.host.gateway_client import ON_THIS_HOST
from vllmstack.host.running import running_key, running_url
from vllmstack.project import find_project
from vllmstack.serving.client import Answer, first_model, streamed
from vllmstack.serving.conversation import Conversation, Message


def times(answer: Answer) -> str:
    """TTFT, TPOT and tokens/s, for a person."""
    if not answer.text or answer.ttft_seconds is None:
        return f"no text in the answer, {answer.output_tokens} tokens"
    ttft = f"TTFT {answer.ttft_seconds * 1000:.0f} ms"
    tokens = f"{answer.output_tokens} token{'' if answer.output_tokens == 1 else 's'}"
    if not answer.tpot_seconds:
        return f"{ttft}, {tokens}"
    rate = f"{1 / answer.tpot_seconds:.0f} tok/s, {tokens}"
    return f"{ttft}, TPOT {answer.tpot_seconds * 1000:.1f} ms, {rate}"


@click.command("chat")
@click.argument("question", required=False)
@click.option("--model", help="The model or alias; the deployment's first if left out.")
@click.option("--system", help="A system prompt.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--temperature", type=click.FloatRange(min=0), help="The model's own default if left out.")
def command(
    question: str | None, model: str | None, system: str | None, max_tokens: int, temperature: float | None
) -> None:
    """Ask one QUESTION, or talk until Ctrl-D."""
    project = find_project()
    url = running_url(project)
    client = openai.OpenAI(
        base_url=f"{url}/v1",
        api_key=os.environ.get("VLLMSTACK_API_KEY") or running_key(project) or "none",
        max_retries=0,
        # On this host, at an address that the certificate hardly names.
        http_client=httpx2.Client(timeout=600, **ON_THIS_HOST),
    )
    model = model or first_model(client, None)
    talk = Conversation(system=system or None)
    options: dict[str, Any] = {"max_tokens": max_tokens}
    if temperature is not None:
        options["temperature"] = temperature
    while True:
        text = question if question is not None else _read()
        if text is None:
            return
        talk.user(text)
        answer = _ask(client, model, talk.prompt(), options)
        talk.assistant(answer.text)
        notes.print(f"[dim]{times(answer)}[/dim]")
        if question is not None:
            return


def _read() -> str | None:
    try:
        while not (text := input("> ").strip()):
            pass
    except EOFError:
        return None
    return text


def _ask(client: openai.OpenAI, model: str, messages: list[Message], options: dict[str, Any]) -> Answer:
    """The answer, shown as it comes; what the terminal says next begins a line, even if it broke off."""
    has_begun = False

    def show(text: str) -> None:
        nonlocal has_begun
        has_begun = True
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        answer = streamed(client, None, model=model, messages=messages, on_text=show, options=options)
    except StackError:
        if has_begun:
            sys.stdout.write("\n")
        raise
    sys.stdout.write("\n")
    return answer
