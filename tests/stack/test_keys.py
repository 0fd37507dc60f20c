"""Keys of a running stack come and go without a restart."""

import subprocess

import httpx2
import openai
import pytest

from tests.stack.conftest import DEPLOYMENT, Stack, await_condition

EFFECTIVE_SECONDS = 2


def keys(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return stack.clone.vllmstack("keys", *arguments, "--deployment", DEPLOYMENT)


def listed(stack: Stack, key: str) -> int:
    return httpx2.get(f"{stack.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_is_let_in_and_refused_again_within_two_seconds(stack: Stack, figures: list[str]) -> None:
    started = stack.container("gateway").attrs["State"]["StartedAt"]

    added = keys(stack, "add", "guest", "--models", "smoke", "--requests-per-minute", "2")
    guest = added.stdout.strip()
    let_in = await_condition(lambda: listed(stack, guest) == 200, seconds=EFFECTIVE_SECONDS, what="the key is let in")
    client = stack.client(guest)
    question: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
    answer = client.chat.completions.with_raw_response.create(model="smoke", messages=question, max_tokens=4)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model="other/smoke", messages=question, max_tokens=4)
    keys(stack, "revoke", "guest")
    gone = await_condition(lambda: listed(stack, guest) == 401, seconds=EFFECTIVE_SECONDS, what="the key is refused")

    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    assert refused.value.code == "model_not_permitted"
    assert stack.container("gateway").attrs["State"]["StartedAt"] == started
    assert guest not in str(stack.container("gateway").logs())
    figures.append(f"a new key is let in after {let_in:.1f} s, a revoked one refused after {gone:.1f} s")


def test_the_stack_asks_with_a_key_of_its_own(stack: Stack) -> None:
    said = stack.clone.vllmstack("chat", "Hello", "--max-tokens", "4")

    assert "TTFT" in said.stderr
    await_condition(
        lambda: '"key":"vllmstack"' in stack.container("gateway").logs(tail=20).decode(),
        seconds=3,
        what="the log has the answer's line",
    )
