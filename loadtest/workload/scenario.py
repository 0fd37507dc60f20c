"""A scenario: which requests are sent. The files in ``loadtest/scenarios`` are its reference, each commented."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from loadtest.errors import LoadTestError
from loadtest.workload.amounts import Whole
from loadtest.workload.parameters import overlaid, split_by_part
from loadtest.workload.rules import rule_problems
from loadtest.workload.sections import (
    Abandonment,
    Conversation,
    Count,
    DefaultLoad,
    Documents,
    Endpoint,
    SharedBy,
    SystemPrompt,
    Tenants,
    Text,
)
from vllmstack.deployment import messages
from vllmstack.deployment.loader import find, names
from vllmstack.deployment.model import Flag, Name, Number, Part
from vllmstack.deployment.wording import shown
from vllmstack.deployment.yaml_file import FileKind, read_mapping
from vllmstack.errors import InvalidInput, Problem

FILE_KIND = FileKind("scenario", "loadtest/scenarios", "`description:` and `prompt_tokens:`")


class MixPart(Part):
    """One scenario of a mix."""

    scenario: Name = Field(description="Its name.")
    weight: Annotated[Number, Field(gt=0)] = Field(default=1, description="How many sessions, relative to the others.")
    definition: "Scenario | None" = Field(
        default=None, description="The scenario itself; left out, it is the file of that name."
    )


class Scenario(Part):
    """One kind of traffic, or a mix of several."""

    name: Name = Field(description="The scenario's name: its file's, without .yaml.")
    description: str = Field(default="", description="One line that says what it is like.")
    endpoint: Endpoint = Field(default=Endpoint.CHAT, description="What is asked: chat, completions or embeddings.")
    prompt_tokens: Whole | None = Field(
        default=None,
        description="Length of the whole (first) prompt: chat template, system prompt and documents included.",
    )
    completion_tokens: Whole | None = Field(default=None, description="Longest answer (max_completion_tokens).")
    ignore_eos: Flag = Field(
        default=False, description="Answers go on to just completion_tokens, past the model's own end."
    )
    text: Text = Field(default=Text.WORDS, description="What prompts look like: words or code.")
    temperature: Annotated[Number, Field(ge=0, le=2)] = Field(
        default=0, description="Sampling temperature; 0 takes the likeliest token each time."
    )
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        default=None, description="Sampling among the likeliest tokens that together have this probability."
    )
    seeded: Flag = Field(
        default=True, description="Each request carries a seed of its own; vLLM then samples it apart from the others."
    )
    system_prompt: SystemPrompt | None = Field(default=None, description="Text before the user's own.")
    documents: Documents | None = Field(default=None, description="Retrieved passages before the question.")
    conversation: Conversation | None = Field(default=None, description="Several turns instead of one.")
    tenants: Tenants | None = Field(default=None, description="Customers who share the service.")
    abandonment: Abandonment | None = Field(default=None, description="Clients that leave early.")
    tools: tuple[dict[str, Any], ...] = Field(
        default=(), description="Functions the model may call, as OpenAI's API takes them."
    )
    tool_choice: str | None = Field(
        default=None, description="auto, required, none, or the name of the one function to call."
    )
    response_format: dict[str, Any] | None = Field(
        default=None, description="What answers must look like, as OpenAI's API takes it."
    )
    inputs_per_request: Count = Field(default=1, description="Texts in one request (embeddings).")
    mix: tuple[MixPart, ...] = Field(default=(), description="Other scenarios and their weights, instead of all above.")
    requests: Count | None = Field(default=None, description="The run ends after this many sessions, not after a time.")
    load: DefaultLoad = Field(
        default=DefaultLoad(concurrency=1), description="The load where the command line names none."
    )

    @property
    def expects_prefix_hits(self) -> bool:
        """Whether requests share beginnings, so that a prefix cache is meant to help."""
        shared = self.system_prompt is not None and self.system_prompt.shared_by is not SharedBy.NOBODY
        parts = (part.definition for part in self.mix)
        return (
            shared
            or self.documents is not None
            or self.conversation is not None
            or bool(self.tools)
            or any(part.expects_prefix_hits for part in parts if part)
        )

    def with_parameters(self, parameters: Mapping[str, Any]) -> "Scenario":
        """A copy with other values; texts are read as YAML has them: ``{"prompt_tokens": "50-250"}``.

        Names of nested values have dots (``system_prompt.tokens``), those of a mix's parts begin with the part's name
        (``chat.prompt_tokens``); :func:`loadtest.workload.parameters.parameters` lists them. Empty texts change
        nothing.

        Raises:
            LoadTestError: with every name that does not exist and every value that does not fit.
        """
        own, of_parts = split_by_part(parameters, [part.scenario for part in self.mix])
        problems: list[Problem] = []
        mix: list[MixPart] = []
        for part in self.mix:
            try:
                changed = part.definition and part.definition.with_parameters(of_parts.get(part.scenario, {}))
                mix.append(part.model_copy(update={"definition": changed}))
            except LoadTestError as error:
                problems += error.problems
        scenario, found = _checked(overlaid(self.model_dump(exclude_unset=True), own), f"parameters of {self.name}")
        if problems or found or scenario is None:
            raise LoadTestError([*found, *problems])
        return scenario.model_copy(update={"mix": tuple(mix)}) if mix else scenario


SHAPE = messages.Shape(Scenario, "the comments in loadtest/scenarios/*.yaml")


def scenario_names(folder: Path) -> list[str]:
    """The scenarios of a folder, in alphabetical order."""
    return names(folder)


def load_scenario(name_or_path: str, *, folder: Path) -> Scenario:
    """Reads and checks the scenario of this name in ``folder``, or of this path.

    Raises:
        LoadTestError: there is none, or with every mistake there is in the file and in those that it mixes.
    """
    try:
        path = find(name_or_path, folder, "scenario")
        scenario, problems = _read(path)
    except InvalidInput as error:
        raise LoadTestError(error.problems) from error
    if scenario is not None and scenario.mix:
        scenario, found = _with_definitions(scenario, path)
        problems += found
    if problems or scenario is None:
        raise LoadTestError(problems)
    return scenario


def _read(path: Path) -> tuple[Scenario | None, list[Problem]]:
    """The file alone: a mix's parts are not looked for."""
    data, problems = read_mapping(path, FILE_KIND)
    file = str(path)
    name = data.get("name", path.stem)
    if name != path.stem:
        fact = f"{shown(name)} is not the file's name, {path.stem}"
        problems.append(Problem(file=file, place="name", fact=fact, hint="leave the key out"))
    scenario, found = _checked({**data, "name": path.stem}, file)
    return scenario, problems + found


def _checked(data: Mapping[Any, Any], file: str) -> tuple[Scenario | None, list[Problem]]:
    """The scenario that ``data`` holds, None if a value is wrong; and all that is wrong with it."""
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        return None, messages.problems(error, data, file, SHAPE)
    return scenario, [replace(problem, file=file) for problem in rule_problems(scenario)]


def _with_definitions(scenario: Scenario, path: Path) -> tuple[Scenario, list[Problem]]:
    """Each part with the scenario that it names, from the folder of the mix's file."""
    parts: list[MixPart] = []
    problems: list[Problem] = []
    for number, part in enumerate(scenario.mix):
        definition = part.definition
        if definition is None:
            try:
                definition, found = _read(find(part.scenario, path.parent, "scenario"))
                problems += found
            except InvalidInput as error:
                place = f"mix/{number}/scenario"
                problems += [
                    replace(one, file=one.file or str(path), place=one.place or place) for one in error.problems
                ]
        if definition is not None and definition.mix:
            fact, hint = f"{part.scenario} is a mix itself", "name the scenarios that it mixes"
            problems.append(Problem(file=str(path), place=f"mix/{number}/scenario", fact=fact, hint=hint))
        parts.append(part.model_copy(update={"definition": definition}))
    return scenario.model_copy(update={"mix": tuple(parts)}), problems
