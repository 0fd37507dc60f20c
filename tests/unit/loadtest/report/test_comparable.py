"""What may be compared, and the field that says why not."""

from loadtest.report.comparable import Variant, obstacles, pairs
from loadtest.results import Flag, RunResult
from tests.unit.loadtest.runs import make_run


def variant(name: str, *runs: RunResult) -> Variant:
    return Variant(name=name, runs=runs)


def told(baseline: Variant, candidate: Variant) -> list[str]:
    return [str(problem).splitlines()[0] for problem in obstacles(baseline, [candidate])]


def test_repeats_of_one_load_are_comparable() -> None:
    assert told(variant("a", make_run(seed=1), make_run(seed=2)), variant("b", make_run(seed=3))) == []


def test_another_load_is_named() -> None:
    before, after = variant("a", make_run(concurrency=4)), variant("b", make_run(rate=3))

    assert told(before, after) == ["b: load: is 3/s poisson, and concurrency 4 in a"]


def test_another_scenario_is_named_without_each_of_its_fields() -> None:
    other = make_run(scenario="rag", scenario_text={"name": "rag", "documents": {"count": 3}})

    assert told(variant("a", make_run()), variant("b", other)) == ["b: scenario: is rag, and chat in a"]


def test_a_changed_parameter_of_the_scenario_is_named() -> None:
    longer = make_run(scenario_text={"name": "chat", "prompt_tokens": 4000, "completion_tokens": 100})

    assert told(variant("a", make_run()), variant("b", longer)) == [
        "b: scenario.prompt_tokens: is 4000, and 200 in a",
    ]


def test_other_limits_of_goodput_and_another_model_are_named() -> None:
    other = make_run(limits={"ttft": 0.5}, model="larger")

    assert told(variant("a", make_run()), variant("b", other)) == [
        "b: model: is larger, and smoke in a",
        "b: limits: is ttft 0.5 s, and none in a",
    ]


def test_a_missing_load_of_a_sweep_is_named() -> None:
    before = variant("a", make_run(concurrency=1), make_run(concurrency=2))

    assert told(before, variant("b", make_run(concurrency=1))) == [
        "b: load: is concurrency 1, and concurrency 1, concurrency 2 in a"
    ]


def test_an_invalid_run_is_named_with_its_reason() -> None:
    bad = make_run(flags=[Flag(kind="client", severity="invalid", fact="the client was late", hint="more cores")])

    assert told(variant("a", make_run()), variant("b", bad)) == ["b: chat-c4-0: is INVALID: the client was late"]


def test_loads_are_paired_with_their_like() -> None:
    before = variant("a", *(make_run(concurrency=count) for count in (8, 1, 2)))
    after = variant("b", *(make_run(concurrency=count) for count in (2, 4, 8)))

    assert [(one.short_name, other.short_name) for one, other in pairs(before, after)] == [("2", "2"), ("8", "8")]


def test_only_force_pairs_what_is_not_alike() -> None:
    before, after = variant("a", make_run(concurrency=4)), variant("b", make_run(concurrency=8))

    assert pairs(before, after) == []
    assert len(pairs(before, after, force=True)) == 1
