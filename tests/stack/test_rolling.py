"""Replicas that are restarted, added, removed and changed while streams run: none of them is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scripts.rolling_load import Streams
from tests.stack.conftest import DEPLOYMENT, Stack, await_condition

ROLL_SECONDS = 600
"""Each start may take minutes where the streams leave little of two cores."""


def streams(stack: Stack, model: str, count: int) -> Streams:
    """With pauses: engines that start need some of the two cores."""
    return Streams(stack.url, model, count=count, tokens=64, pause_seconds=4, key=stack.key)


@contextmanager
def changed(stack: Stack, old: str, new: str) -> Iterator[None]:
    """The deployment's file with another text in it, for as long as the block lasts."""
    file = stack.clone.folder / DEPLOYMENT
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    try:
        yield
    finally:
        file.write_text(text)


def engines(stack: Stack) -> dict[str, Any]:
    """The id of each engine's container, by service."""
    return {
        one.labels["com.docker.compose.service"]: one.id
        for one in stack.containers()
        if "vllmstack.model" in one.labels
    }


def test_a_restart_of_every_replica_loses_no_stream(stack: Stack, figures: list[str]) -> None:
    before = engines(stack)

    with streams(stack, "smoke", 24) as running:
        stack.clone.vllmstack("restart", "smoke", seconds=ROLL_SECONDS)

    figures.append(f"`vllmstack restart` of 2 replicas: {running.outcome}")
    assert running.outcome.lossless, running.outcome.summary()
    after = engines(stack)
    assert {service for service in after if after[service] != before[service]} == {"engine-smoke-1", "engine-smoke-2"}


def test_a_replica_that_is_added_serves_and_one_that_goes_loses_no_stream(stack: Stack, figures: list[str]) -> None:
    before = engines(stack)
    one, two = "- name: other/smoke\n", "- name: other/smoke\n    replicas: 2\n"
    with streams(stack, "other/smoke", 12) as running:
        with changed(stack, one, two):
            foretold = stack.clone.vllmstack("apply", "--dry-run").stdout
            stack.clone.vllmstack("apply", seconds=ROLL_SECONDS)
            added = engines(stack)
            # It starts slowly: with a tenth of its share, and one more than that at a time.
            await_condition(
                lambda: '"replica":"engine-other-smoke-2"' in stack.container("gateway").logs().decode(),
                seconds=60,
                what="the new replica serves",
            )
        stack.clone.vllmstack("apply", seconds=ROLL_SECONDS)

    figures.append(f"`vllmstack apply` from 1 to 2 replicas and back: {running.outcome}")
    assert running.outcome.lossless, running.outcome.summary()
    assert foretold == (
        "1. start engine-other-smoke-2: it is new\n2. reload gateway: changed: routes.json, upstreams.conf\n"
    )
    assert added.keys() - before.keys() == {"engine-other-smoke-2"}
    assert engines(stack) == before


def test_an_option_that_vllm_refuses_leaves_the_old_replicas_serving(stack: Stack, figures: list[str]) -> None:
    before = engines(stack)

    with (
        streams(stack, "smoke", 8) as running,
        # A value that only vLLM knows to be wrong, at its start.
        changed(stack, 'VLLM_CPU_KVCACHE_SPACE: "1"', 'VLLM_CPU_KVCACHE_SPACE: "1", VLLM_LOGGING_LEVEL: NONSENSE'),
    ):
        done = stack.clone.vllmstack("apply", seconds=ROLL_SECONDS, check=False)

    figures.append(f"`vllmstack apply` of an option that vLLM refuses: {running.outcome}")
    assert done.returncode == 1
    assert "engine-smoke-1: the container stopped" in done.stderr
    assert "NONSENSE" in done.stderr
    assert "hint:" in done.stderr
    assert running.outcome.lossless, running.outcome.summary()
    after = engines(stack)
    assert {service for service in after if after[service] != before[service]} == {"engine-smoke-1"}
    assert stack.clone.vllmstack("apply", "--dry-run").stdout.endswith("nothing to do\n")
