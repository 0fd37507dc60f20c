"""The file of API keys: what it may say, what it never says, and how keys come and go."""

import hashlib
import json
import re
from typing import Any

import pytest

from vllmstack.deployment.api_keys import (
    ApiKey,
    Priority,
    added,
    digest,
    gateway_text,
    key_file_problems,
    keys_text,
    make_key,
    new_secret,
    parse_keys,
    revoked,
)
from vllmstack.errors import InvalidInput

SECRET = "sk-0123456789abcdef0123456789abcdef"
HASH = hashlib.sha256(SECRET.encode()).hexdigest()
ALICE: dict[str, Any] = {"name": "alice", "sha256": HASH}


def text(*entries: Any) -> str:
    return json.dumps({"keys": entries})


def test_a_key_has_256_random_bits_and_only_letters_and_digits() -> None:
    secrets = {new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(re.fullmatch(r"sk-[A-Za-z0-9]{43}", secret) for secret in secrets)


def test_what_is_kept_of_a_key_is_its_sha_256() -> None:
    assert digest(SECRET) == HASH


def test_an_entry_without_limits_limits_nothing() -> None:
    assert parse_keys(text(ALICE)) == (ApiKey(name="alice", sha256=HASH),)
    assert parse_keys(text(ALICE))[0].model_dump(mode="json") == ALICE | {
        "models": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrency": None,
        "priority": "interactive",
        "debug": False,
        "created": None,
    }


def test_what_is_written_is_read_again() -> None:
    whole = make_key(
        "bob.1", SECRET, models=("m", "org/x:1"), requests_per_minute=60, tokens_per_minute=90_000, concurrency=4,
        priority="batch", debug=True,
    )  # fmt: skip

    written = keys_text([whole])

    assert parse_keys(written) == (whole,)
    assert whole.priority is Priority.BATCH
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", whole.created or "")
    assert SECRET not in written
    assert written.endswith("}\n")


def test_nobody_need_have_a_key() -> None:
    assert parse_keys('{"keys": []}') == ()


def test_the_gateway_gets_the_stacks_own_key_after_the_users() -> None:
    given = json.loads(gateway_text([ApiKey(**ALICE)], "sk-own"))

    assert [(key["name"], key["sha256"]) for key in given["keys"]] == [("alice", HASH), ("vllmstack", digest("sk-own"))]
    assert {given["keys"][1][limit] for limit in ("models", "requests_per_minute", "tokens_per_minute")} == {None}


@pytest.mark.parametrize(
    ("written", "place", "fact"),
    [
        ("", "", "is empty"),
        ("[]", "", "is a list, where a mapping belongs"),
        ("{}", "keys", "is missing"),
        ('{"keys": [], "key": 1}', "key", "there is no such key"),
        ('{"keys": {}}', "keys", "is a mapping, where a list belongs"),
        ('{"keys": [\n  {"name": }]}', "line 2, column 12", "is not JSON: Expecting value"),
        (text("alice"), "keys/0", '"alice" is text, where a mapping belongs'),
        (text({"name": "alice"}), "keys/0/sha256", "is missing"),
        (
            text(ALICE | {"name": "al|ice"}),
            "keys/0/name",
            "has other characters than letters, digits and . _ -, or more than 64",
        ),
        (text(ALICE | {"name": "vllmstack"}), "keys/0/name", '"vllmstack" is the stack\'s own'),
        (text(ALICE | {"sha256": HASH.upper()}), "keys/0/sha256", "is not a SHA-256 in 64 lower-case hex digits"),
        (text(ALICE | {"sha256": 7}), "keys/0/sha256", "is not a SHA-256 in 64 lower-case hex digits"),
        (text(ALICE | {"models": []}), "keys/0/models", "is an empty list"),
        (text(ALICE | {"requests_per_minute": 0}), "keys/0/requests_per_minute", "0 is less than 1"),
        (
            text(ALICE | {"tokens_per_minute": "9"}),
            "keys/0/tokens_per_minute",
            '"9" is text, where a whole number belongs',
        ),
        (text(ALICE | {"priority": "bulk"}), "keys/0/priority", '"bulk" is not a choice here'),
        (text(ALICE | {"created": "yesterday"}), "keys/0/created", "is no time in UTC"),
        (text(ALICE, ALICE | {"sha256": digest("x")}), "keys/1/name", "is that of keys/0 too"),
        (text(ALICE, ALICE | {"name": "bob"}), "keys/1/sha256", "is that of keys/0 too"),
    ],
)
def test_a_mistake_is_named_by_its_place(written: str, place: str, fact: str) -> None:
    (problem,) = key_file_problems(written)

    assert (problem.place, problem.fact) == (place, fact)
    assert problem.hint


def test_every_mistake_is_named_at_once() -> None:
    wrong = text({"name": "a b", "sha256": "x"}, ALICE, ALICE | {"concurrency": -1, "limit": 3})

    assert [problem.place for problem in key_file_problems(wrong)] == [
        "keys/0/name",
        "keys/0/sha256",
        "keys/2/concurrency",
        "keys/2/limit",
        "keys/2/name",
        "keys/2/sha256",
    ]


def test_the_lines_of_an_earlier_release_are_recognised() -> None:
    (problem,) = key_file_problems(f"# who may ask\nalice {SECRET}\n\nbob\t{SECRET}2\n")

    assert str(problem) == (
        "holds `NAME KEY` lines, as before keys were hashed\n"
        "  hint: move it away and give each client a new key: `vllmstack keys add NAME`; docs/guides/api-keys.md tells "
        "how to keep keys that cannot be changed"
    )


@pytest.mark.parametrize(
    "written",
    [
        f"alice {SECRET}\n",
        f"alice {SECRET} {SECRET}\n",
        text({"name": "alice", "sha256": SECRET}),
        text({"name": "alice", "key": SECRET}),
        text({"name": SECRET + "|", "sha256": SECRET}),
        text(SECRET)[:-1],
    ],
)
def test_no_message_shows_a_key_that_stands_where_none_belongs(written: str) -> None:
    problems = key_file_problems(written)

    assert problems
    assert SECRET not in "\n".join(map(str, problems))


def test_a_name_is_given_once() -> None:
    keys = added((), make_key("alice", SECRET))

    with pytest.raises(InvalidInput) as caught:
        added(keys, make_key("alice", "sk-other"))

    assert str(caught.value) == (
        'there is a key of "alice" already\n  hint: choose another name, or `vllmstack keys revoke alice` first'
    )


@pytest.mark.parametrize("name", ["", "-alice", "al ice", "a" * 65, "vllmstack", "a|b"])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_key(name, SECRET)

    assert caught.value.problems[0].place == "name"


def test_a_revoked_key_is_gone_and_the_others_stay() -> None:
    keys = (make_key("alice", "sk-a"), make_key("bob", "sk-b"))

    assert revoked(keys, "alice") == keys[1:]


@pytest.mark.parametrize(
    ("name", "hint"), [("alicia", "Perhaps you meant `alice`?"), ("zoe", "the names are alice and bob")]
)
def test_an_unknown_name_is_told_with_what_there_is(name: str, hint: str) -> None:
    keys = (make_key("alice", "sk-a"), make_key("bob", "sk-b"))

    with pytest.raises(InvalidInput) as caught:
        revoked(keys, name)

    assert str(caught.value) == f'there is no key of "{name}"\n  hint: {hint}'
