"""Log lines: which speak of a request, and what they are for a person."""

import json

import pytest

from vllmstack.log_lines import brief, parsed, plain, speaks_of


@pytest.mark.parametrize(
    "line",
    [
        "Added request chatcmpl-abc-0123abcd.",
        "Added request 0_cmpl-abc-0-0123abcd.",
        "Added request 1_chatcmpl-abc-fedcba98.",
        "Request embd-abc-3 aborted.",
        "Aborted request(s) chatcmpl-x,cmpl-abc-0.",
        '{"message": "Request chatcmpl-abc failed (engine dead)."}',
        '(APIServer pid=7) {"message": "Added request chatcmpl-abc-0123abcd."}',
        '{"request_id": "abc", "status": 200}',
        "abc",
    ],
)
def test_a_line_speaks_of_the_request(line: str) -> None:
    assert speaks_of(line, "abc")


@pytest.mark.parametrize(
    "line",
    [
        "Added request chatcmpl-abcd-0123abcd.",
        "Added request chatcmpl-x-abc-0123abcd.",
        "Added request chatcmpl-abc.d-0123abcd.",
        "Added request chatcmpl-abc-d.",
        '{"request_id": "abcd", "key": "abc"}',
        "nothing",
    ],
)
def test_a_line_of_another_request_does_not(line: str) -> None:
    assert not speaks_of(line, "abc")


def test_an_id_may_have_signs_that_patterns_have() -> None:
    assert speaks_of("Added request chatcmpl-a.b:c_d-0123abcd.", "a.b:c_d")
    assert not speaks_of("Added request chatcmpl-aXb:c_d-0123abcd.", "a.b:c_d")


def test_an_older_engines_process_before_its_json_is_in_it() -> None:
    line = '(EngineCore pid=12) {"level": "INFO", "process": null, "message": "loaded"}'

    assert parsed(line) == {"level": "INFO", "process": "EngineCore", "pid": 12, "message": "loaded"}
    assert plain(line) == "(EngineCore pid=12) INFO loaded"


@pytest.mark.parametrize("line", ["plain text", "", "{not json}", "[1, 2]", '(x) {"a": 1}'])
def test_what_is_no_json_stays_as_it_is(line: str) -> None:
    assert parsed(line) is None
    assert plain(line) == line
    assert brief(line) == line


def test_other_services_fields_follow_the_message() -> None:
    line = json.dumps({"time": "T", "level": "warn", "source": "head.go:1", "msg": "slow", "seconds": 3, "error": ""})

    assert plain(line) == "WARN T slow source=head.go:1 seconds=3"
    assert brief(line) == "WARN slow source=head.go:1 seconds=3"
