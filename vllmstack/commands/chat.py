"""`vllmstack chat`: talks to a model through the gateway and shows what a user would feel."""

import os
import sys

import click
import httpx2
import openai
from openai.types.chat import ChatCompletionMessageParam

from vllmstack.console import notes
from vllmstack.errors import Problem, StackError
from vllmstack.host.gateway_client import ON_THIS_HOST
from vllmstack.host.running import running_key, running_url
from vllmstack.project import find_project
from vllmstack.serving.client import Answer, Collected


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
    model = model or _first_model(client)
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": system}] if system else []
    while True:
        text = question if question is not None else _read()
        if text is None:
            return
        messages.append({"role": "user", "content": text})
        answer = _ask(client, model, messages, max_tokens, temperature)
        messages.append({"role": "assistant", "content": answer.text})
        notes.print(f"[dim]{times(answer)}[/dim]")
        if question is not None:
            return


def _first_model(client: openai.OpenAI) -> str:
    try:
        return client.models.list().data[0].id
    except openai.APIError as error:
        raise _refused(error) from None


def _refused(error: openai.APIError) -> StackError:
    """What the gateway said, or that nothing answers there."""
    if isinstance(error, openai.AuthenticationError):
        return StackError(
            Problem(
                fact=f"the gateway refuses the key: {error.message}",
                hint="export VLLMSTACK_API_KEY=…",
            )
        )
    return StackError(Problem(fact=f"no answer: {error.message}", hint="see `vllmstack status`"))


def _read() -> str | None:
    try:
        while not (text := input("> ").strip()):
            pass
    except EOFError:
        return None
    return text


def _ask(
    client: openai.OpenAI,
    model: str,
    messages: list[ChatCompletionMessageParam],
    max_tokens: int,
    temperature: float | None,
) -> Answer:
    collected = Collected(on_text=_show)
    try:
        stream = client.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=max_tokens,
            temperature=openai.omit if temperature is None else temperature,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            collected.take(chunk)
    except openai.APIError as error:
        if collected.has_begun:
            sys.stdout.write("\n")
            broken = Problem(fact=f"the answer broke off: {error.message}", hint="see `vllmstack status`")
            raise StackError(broken) from None
        raise _refused(error) from None
    sys.stdout.write("\n")
    return collected.answer()


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
