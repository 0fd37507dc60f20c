"""Whether a model can serve a scenario: found before the run, not by the first thousand refused requests."""

from collections.abc import Iterable, Iterator, Sequence

from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.stack import ServedModel
from loadtest.workload.amounts import Whole
from loadtest.workload.plan import Planner
from loadtest.workload.scenario import Scenario
from loadtest.workload.sections import Endpoint
from loadtest.workload.writer import Writer
from vllmstack.errors import Problem


def fit_problems(scenario: Scenario, model: ServedModel, writer: Writer) -> Iterator[Problem]:
    """All that keeps ``model`` from serving ``scenario``."""
    yield from _tool_problems(scenario, model)
    if scenario.prompt_tokens is None:
        return
    longest = _longest(scenario, writer) if model.max_model_len is not None else 0
    fewest = scenario.prompt_tokens.fewest
    try:
        shortest = writer.shortest(Planner(scenario, seed=0).plan(0), fewest)
    except LoadTestError as error:
        yield from error.problems
        return
    if fewest < shortest:
        around = _around(scenario)
        several = " and " in around
        hint = f"ask for {shortest:,} or more" + (", or shorten what requests share" if several else "")
        fact = (
            f"{fewest:,} tokens are too few: {around} take{'' if several else 's'} {shortest - 1:,} with {model.name}"
        )
        yield Problem(place="prompt_tokens", fact=fact, hint=hint)
    if model.max_model_len is not None and longest > model.max_model_len:
        yield _too_long(scenario, model, longest)


def arrival_problems(arrivals: Iterable[Arrival], model: ServedModel) -> Iterator[Problem]:
    """One problem if entries of a trace are longer than the model takes."""
    if model.max_model_len is None:
        return
    lengths = [(one.prompt_tokens or 0) + (one.completion_tokens or 0) for one in arrivals]
    too_long = [length for length in lengths if length > model.max_model_len]
    if too_long:
        yield Problem(
            place="--trace",
            fact=f"{len(too_long):,} of {len(lengths):,} requests have up to {max(too_long):,} tokens, "
            f"more than the {model.max_model_len:,} that {model.name} takes (max_model_len)",
            hint="leave them out of the trace, or serve the model with a larger max_model_len",
        )


def _longest(scenario: Scenario, writer: Writer) -> int:
    """Tokens of the longest possible prompt with its answer."""
    completion = scenario.completion_tokens.most if scenario.completion_tokens else 0
    total = (scenario.prompt_tokens.most if scenario.prompt_tokens else 0) + completion
    if scenario.conversation is None:
        return total
    try:
        a_turn = completion + scenario.conversation.message_tokens.most + writer.turn_overhead
    except LoadTestError:
        return total  # the template's refusal is reported elsewhere
    return total + (scenario.conversation.turns.most - 1) * a_turn


def _too_long(scenario: Scenario, model: ServedModel, longest: int) -> Problem:
    what = "prompt and answer take" if scenario.endpoint is not Endpoint.EMBEDDINGS else "prompts take"
    names = ["prompt_tokens"]
    if scenario.endpoint is not Endpoint.EMBEDDINGS:
        names.append("completion_tokens")
    if scenario.conversation:
        what = f"{scenario.conversation.turns.most} turns take"
        names += ["conversation.turns", "conversation.message_tokens"]
    given = _listed_or([f"{name} (up to {_most(scenario, name):,})" for name in names])
    return Problem(
        place="prompt_tokens",
        fact=f"{what} up to {longest:,} tokens, more than the {model.max_model_len:,} that {model.name} takes "
        "(max_model_len)",
        hint=f"lower {given}, or serve the model with a larger max_model_len",
    )


def _most(scenario: Scenario, name: str) -> int:
    value: object = scenario
    for part in name.split("."):
        value = getattr(value, part)
    return value.most if isinstance(value, Whole) else 0


def _listed_or(words: Sequence[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def _around(scenario: Scenario) -> str:
    """What every prompt has beside its own text."""
    parts = ["the chat template"] if scenario.endpoint is Endpoint.CHAT else ["what the tokenizer adds"]
    parts += ["the system prompt"] if scenario.system_prompt else []
    parts += ["the documents"] if scenario.documents else []
    parts += ["the tools"] if scenario.tools else []
    *head, last = parts
    return f"{', '.join(head)} and {last}" if head else last


def _tool_problems(scenario: Scenario, model: ServedModel) -> Iterator[Problem]:
    """What vLLM 0.32 answers with 400 (renderers/online_renderer.py). Mistral's own tokenizer needs no parser."""
    if not scenario.tools or scenario.tool_choice == "none" or model.options.get("tokenizer_mode") == "mistral":
        return
    choice = scenario.tool_choice or "auto"
    lacking = [] if model.options.get("tool_call_parser") else ["tool_call_parser"]
    if choice == "auto" and not model.options.get("enable_auto_tool_choice"):
        lacking.append("enable_auto_tool_choice")
    if lacking:
        yield Problem(
            place="tool_choice",
            fact=f"{choice} needs {' and '.join(lacking)}, which {model.name} is served without",
            hint=f"set {' and '.join(lacking)} under `serve:` in the deployment, or run with tool_choice=none",
        )
