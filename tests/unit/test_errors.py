"""How a problem reads."""

import pytest

from vllmstack.errors import HostError, InvalidInput, Problem, StackError, VllmstackError


def test_a_problem_says_where_then_what_then_how_to_mend_it() -> None:
    problem = Problem(file="deployments/x.yaml", place="models/0/replicas", fact="is 0", hint="write 1 or more")

    assert str(problem) == "deployments/x.yaml: models/0/replicas: is 0\n  hint: write 1 or more"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({}, "no disk\n  hint: free some"),
        ({"file": "x.yaml"}, "x.yaml: no disk\n  hint: free some"),
        ({"place": "models"}, "models: no disk\n  hint: free some"),
    ],
)
def test_what_is_not_known_of_the_place_leaves_no_colon_behind(where: dict[str, str], text: str) -> None:
    assert str(Problem(fact="no disk", hint="free some", **where)) == text


def test_an_error_lists_each_of_its_problems() -> None:
    error = InvalidInput([Problem(fact="one", hint="a"), Problem(fact="two", hint="b")])

    assert [problem.fact for problem in error.problems] == ["one", "two"]
    assert str(error) == "one\n  hint: a\ntwo\n  hint: b"


def test_an_error_of_one_problem_needs_no_list() -> None:
    assert [problem.fact for problem in HostError(Problem(fact="one", hint="a")).problems] == ["one"]


@pytest.mark.parametrize("kind", [InvalidInput, HostError, StackError])
def test_every_expected_failure_exits_with_one(kind: type[VllmstackError]) -> None:
    assert kind(Problem(fact="one", hint="a")).exit_code == 1
