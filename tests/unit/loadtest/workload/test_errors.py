"""Broken scenario files, one mistake each: the exact message, with its hint.

Each case takes a valid file, replaces one piece of text, and says what the loader answers.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.errors import EXIT_INVALID, LoadTestError
from loadtest.workload.scenario import load_scenario, scenario_names

GOOD = """\
description: For tests
endpoint: chat
prompt_tokens: 50-250
completion_tokens: 128
temperature: 0.5
system_prompt: {tokens: 30, shared_by: tenant}
tenants: {count: 5}
conversation:
  turns: 2-4
  message_tokens: 20
  think_seconds: 1.5
abandonment: {share: 0.1, after_seconds: 2}
load: {concurrency: 4}
"""
TOOL = "tools: [{type: function, function: {name: get_weather}}]\n"
MIX = "description: Both\nmix:\n  - {scenario: good}\n  - {scenario: other, weight: 2}\nload: {concurrency: 4}\n"
AMOUNT_HINT = (
    "write a number, a range like 50-250, or a mapping like "
    "{distribution: lognormal, mean: 120, deviation: 60, min: 50, max: 250}"
)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One broken file."""

    name: str
    old: str
    """What is replaced in the valid file; empty: the whole file."""
    new: str
    place: str
    fact: str
    hint: str

    @property
    def message(self) -> str:
        where = f"bad.yaml: {self.place}: " if self.place else "bad.yaml: "
        return f"{where}{self.fact}\n  hint: {self.hint}"


MISTAKES = (
    Mistake(
        name="tab indent",
        old="  turns: 2-4",
        new="\tturns: 2-4",
        place="line 9, column 1",
        fact="is not YAML: found character '\\t' that cannot start any token",
        hint="indent with spaces, not with tabs",
    ),
    Mistake(
        name="empty file",
        old="",
        new="# nothing\n",
        place="",
        fact="is empty",
        hint="copy one of loadtest/scenarios/*.yaml and change what you need",
    ),
    Mistake(
        name="a list at the top",
        old="",
        new="- chat\n",
        place="",
        fact="is a list, where a mapping belongs",
        hint="begin with `description:` and `prompt_tokens:`, as loadtest/scenarios/*.yaml do",
    ),
    Mistake(
        name="two documents",
        old="load:",
        new="---\nload:",
        place="line 13, column 1",
        fact="is not YAML: found another document",
        hint="keep one scenario a file: remove what follows `---`",
    ),
    Mistake(
        name="a key twice",
        old="temperature: 0.5",
        new="temperature: 0.5\ntemperature: 1",
        place="temperature",
        fact="is written twice, on lines 5 and 6",
        hint="keep one of the two",
    ),
    Mistake(
        name="another name",
        old="description: For tests",
        new="name: good",
        place="name",
        fact='"good" is not the file\'s name, bad',
        hint="leave the key out",
    ),
    Mistake(
        name="an unknown key",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: 50-250\nprompt_token: 3",
        place="prompt_token",
        fact="there is no such key",
        hint="Perhaps you meant `prompt_tokens`?",
    ),
    Mistake(
        name="an unknown key in a section",
        old="think_seconds: 1.5",
        new="think_seconds: 1.5\n  pause: 3",
        place="conversation/pause",
        fact="there is no such key",
        hint="the keys here are turns, message_tokens and think_seconds",
    ),
    Mistake(
        name="a key of an amount",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: {distribution: uniform, min: 3, maximum: 9}",
        place="prompt_tokens/maximum",
        fact="there is no such key",
        hint="Perhaps you meant `max`?",
    ),
    Mistake(
        name="an unknown endpoint",
        old="endpoint: chat",
        new="endpoint: completion",
        place="endpoint",
        fact='"completion" is not a choice here',
        hint="Perhaps you meant `completions`?",
    ),
    Mistake(
        name="prompt_tokens missing",
        old="prompt_tokens: 50-250\n",
        new="",
        place="prompt_tokens",
        fact="is missing",
        hint="add it, e.g. `prompt_tokens: 50-250`, or `mix:` with other scenarios",
    ),
    Mistake(
        name="completion_tokens missing",
        old="completion_tokens: 128\n",
        new="",
        place="completion_tokens",
        fact="is missing",
        hint="add it, e.g. `completion_tokens: 128`: the longest answer",
    ),
    Mistake(
        name="no amount",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: long",
        place="prompt_tokens",
        fact='"long" is no amount',
        hint=AMOUNT_HINT,
    ),
    Mistake(
        name="no tokens",
        old="completion_tokens: 128",
        new="completion_tokens: 0",
        place="completion_tokens",
        fact="value is 0",
        hint="write whole numbers, 1 or more",
    ),
    Mistake(
        name="half a token",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: 50-250.5",
        place="prompt_tokens",
        fact="max is 250.5",
        hint="write whole numbers, 1 or more",
    ),
    Mistake(
        name="a range the wrong way round",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: 250-50",
        place="prompt_tokens",
        fact="min 250 is more than max 50",
        hint="swap them",
    ),
    Mistake(
        name="a distribution that lacks something",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: {distribution: lognormal, mean: 100}",
        place="prompt_tokens",
        fact="lognormal lacks deviation and max",
        hint="lognormal needs mean, deviation and max",
    ),
    Mistake(
        name="a distribution with too much",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: {distribution: uniform, min: 3, max: 9, mean: 5}",
        place="prompt_tokens",
        fact="uniform has no mean",
        hint="uniform needs min and max; the distributions are fixed, uniform, normal, lognormal, exponential, choices",
    ),
    Mistake(
        name="an unknown distribution",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: {distribution: log-normal, mean: 100, deviation: 5, max: 9}",
        place="prompt_tokens/distribution",
        fact='"log-normal" is not a choice here',
        hint="Perhaps you meant `lognormal`?",
    ),
    Mistake(
        name="choices of no weight",
        old="prompt_tokens: 50-250",
        new="prompt_tokens: {distribution: choices, choices: [{value: 3, weight: 0}]}",
        place="prompt_tokens",
        fact="all weights are 0",
        hint="give one of the choices a weight above 0",
    ),
    Mistake(
        name="text for a number",
        old="temperature: 0.5",
        new='temperature: "0.5"',
        place="temperature",
        fact='"0.5" is text, where a number belongs',
        hint="write it without quotes: 0.5",
    ),
    Mistake(
        name="a temperature beyond bounds",
        old="temperature: 0.5",
        new="temperature: 3",
        place="temperature",
        fact="3 is more than 2",
        hint="write a number from 0 to 2 (`temperature`: sampling temperature; 0 takes the likeliest token each time)",
    ),
    Mistake(
        name="a share in percent",
        old="share: 0.1",
        new="share: 10",
        place="abandonment/share",
        fact="10 is more than 1",
        hint="write a number from 0 to 1 (`share`: of all requests, 0 to 1)",
    ),
    Mistake(
        name="a section that lacks a key",
        old="  message_tokens: 20\n",
        new="",
        place="conversation/message_tokens",
        fact="is missing",
        hint="add it (`message_tokens`: length of each question after the first)",
    ),
    Mistake(
        name="a conversation of completions",
        old="endpoint: chat",
        new="endpoint: completions",
        place="conversation",
        fact="does not fit the endpoint completions",
        hint="remove it, or write `endpoint: chat`",
    ),
    Mistake(
        name="embeddings with answers",
        old="",
        new="endpoint: embeddings\nprompt_tokens: 9\ncompletion_tokens: 3\n",
        place="completion_tokens",
        fact="does not fit the endpoint embeddings",
        hint="remove it, or write `endpoint: chat`",
    ),
    Mistake(
        name="several inputs of a chat",
        old="temperature: 0.5",
        new="inputs_per_request: 8",
        place="inputs_per_request",
        fact="does not fit the endpoint chat",
        hint="remove it, or write `endpoint: embeddings`",
    ),
    Mistake(
        name="code in a chat",
        old="",
        new="text: code\nprompt_tokens: 99\ncompletion_tokens: 3\n",
        place="text",
        fact="code does not fit the endpoint chat",
        hint="write `endpoint: completions`, or `text: words`",
    ),
    Mistake(
        name="code after a system prompt",
        old="",
        new="endpoint: completions\ntext: code\nprompt_tokens: 99\ncompletion_tokens: 3\nsystem_prompt: {tokens: 9}\n",
        place="system_prompt",
        fact="does not fit beside `text: code`",
        hint="remove one of the two",
    ),
    Mistake(
        name="shared by tenants that are none",
        old="tenants: {count: 5}\n",
        new="",
        place="system_prompt/shared_by",
        fact="is tenant, but the scenario has no tenants",
        hint="add `tenants:`, or write all",
    ),
    Mistake(
        name="a header that is none",
        old="tenants: {count: 5}",
        new='tenants: {count: 5, header: "X Tenant"}',
        place="tenants/header",
        fact='"X Tenant" has characters or a form that do not fit here',
        hint="see the comments in loadtest/scenarios/*.yaml",
    ),
    Mistake(
        name="no load",
        old="load: {concurrency: 4}",
        new="load: {duration_seconds: 4}",
        place="load",
        fact="sets no load",
        hint="give just one of concurrency and requests_per_second",
    ),
    Mistake(
        name="two loads",
        old="load: {concurrency: 4}",
        new="load: {concurrency: 4, requests_per_second: 2}",
        place="load",
        fact="sets both concurrency and requests_per_second",
        hint="give just one of concurrency and requests_per_second",
    ),
    Mistake(
        name="a tool that is no function",
        old="temperature: 0.5",
        new="tools: [{name: get_weather}]",
        place="tools/0",
        fact="is no function, as OpenAI's API has them",
        hint="write {type: function, function: {name: …, description: …, parameters: {…}}}",
    ),
    Mistake(
        name="a choice of no tool",
        old="temperature: 0.5\n",
        new=TOOL + "tool_choice: get_wether\n",
        place="tool_choice",
        fact='"get_wether" is none of the tools',
        hint="Perhaps you meant `get_weather`?",
    ),
    Mistake(
        name="a choice without tools",
        old="temperature: 0.5",
        new="tool_choice: required",
        place="tool_choice",
        fact="there are no tools",
        hint="add `tools:`, or remove it",
    ),
    Mistake(
        name="a form that has no end",
        old="temperature: 0.5",
        new="response_format: {type: json_object}\nignore_eos: true",
        place="ignore_eos",
        fact="contradicts `response_format`: such an answer ends where its form ends",
        hint="remove one of the two",
    ),
    Mistake(
        name="a mix with requests of its own",
        old="",
        new=MIX + "prompt_tokens: 3\n",
        place="prompt_tokens",
        fact="does not fit beside `mix`, which sends no requests of its own",
        hint="set it in the scenarios that are mixed",
    ),
    Mistake(
        name="a mix of unknown scenarios",
        old="",
        new=MIX.replace("other", "goood"),
        place="mix/1/scenario",
        fact="there is no scenario named 'goood'",
        hint="Perhaps you meant `good`?",
    ),
    Mistake(
        name="a scenario twice in a mix",
        old="",
        new=MIX.replace("other", "good"),
        place="mix/1/scenario",
        fact="good is in the mix already",
        hint="add its weight to the first one's",
    ),
    Mistake(
        name="a mix of mixes",
        old="",
        new=MIX.replace("good", "mixed"),
        place="mix/0/scenario",
        fact="mixed is a mix itself",
        hint="name the scenarios that it mixes",
    ),
    Mistake(
        name="a mix of itself",
        old="",
        new=MIX.replace("good", "bad"),
        place="mix/0/scenario",
        fact="bad is a mix itself",
        hint="name the scenarios that it mixes",
    ),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory for one test; files are named relative to it, as a user would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text("prompt_tokens: 9\ncompletion_tokens: 3\nload: {concurrency: 1}\n")
    (tmp_path / "mixed.yaml").write_text(MIX)
    return tmp_path


def test_the_file_that_the_mistakes_are_put_in_is_right(folder: Path) -> None:
    scenario = load_scenario("good", folder=folder)
    assert (scenario.name, scenario.load.concurrency) == ("good", 4)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_has_its_message_and_hint(mistake: Mistake, folder: Path) -> None:
    assert not mistake.old or GOOD.count(mistake.old) == 1
    (folder / "bad.yaml").write_text(GOOD.replace(mistake.old, mistake.new) if mistake.old else mistake.new)
    with pytest.raises(LoadTestError) as caught:
        load_scenario("bad.yaml", folder=folder)
    assert str(caught.value) == mistake.message
    assert caught.value.exit_code == EXIT_INVALID


def test_every_mistake_is_told_at_once(folder: Path) -> None:
    bad = GOOD.replace("50-250", "long").replace("0.5", "9").replace("count: 5", "count: 0")
    (folder / "bad.yaml").write_text(bad)
    with pytest.raises(LoadTestError) as caught:
        load_scenario("bad.yaml", folder=folder)
    assert [problem.place for problem in caught.value.problems] == ["prompt_tokens", "temperature", "tenants/count"]


def test_a_mistake_in_a_part_of_a_mix_is_told_with_its_own_file(folder: Path) -> None:
    (folder / "other.yaml").write_text("prompt_tokens: 9\n")
    with pytest.raises(LoadTestError) as caught:
        load_scenario("mixed", folder=folder)
    (problem,) = caught.value.problems
    assert Path(problem.file).name == "other.yaml"
    assert problem.place == "completion_tokens"


@pytest.mark.parametrize(
    ("asked", "fact", "hint"),
    [
        ("god", "there is no scenario named 'god'", "Perhaps you meant `good`?"),
        ("zzz", "there is no scenario named 'zzz'", "the scenarios are good, mixed and other"),
        ("./goood.yaml", "there is no such file", "Perhaps you meant `good`?"),
    ],
)
def test_an_unknown_scenario_is_told_with_what_there_is(asked: str, fact: str, hint: str, folder: Path) -> None:
    with pytest.raises(LoadTestError) as caught:
        load_scenario(asked, folder=folder)
    (problem,) = caught.value.problems
    assert (problem.fact, problem.hint) == (fact, hint)


def test_names_are_those_of_the_files_in_alphabetical_order(folder: Path) -> None:
    (folder / "notes.txt").write_text("no scenario")
    assert scenario_names(folder) == ["good", "mixed", "other"]
