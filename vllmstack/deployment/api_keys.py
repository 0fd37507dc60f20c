"""The file of API keys: who may ask, for what, and how much. No key stands in it, only each key's SHA-256."""

import datetime
import hashlib
import json
import re
import secrets
import string
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from vllmstack.deployment import messages
from vllmstack.deployment.model import ClientModelName, Flag, Part, Whole
from vllmstack.deployment.wording import kind, listed, perhaps, shown
from vllmstack.errors import InvalidInput, Problem

STACK_NAME = "vllmstack"
"""Of the key that the stack itself uses; `up` makes it."""
REFERENCE = "docs/guides/api-keys.md"

_PREFIX = "sk-"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 43
"""Letters and digits: 43 × log2(62) = 256 bits."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OLD_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\s+\S{8,512}")
"""What a line was before keys were hashed."""


def _checked(fits: Callable[[Any], bool], fact: str, hint: str) -> Callable[[Any], Any]:
    """A validator in words of its own: they do not show the value, which may be a key at the wrong place."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise PydanticCustomError("problem", "{fact}", {"fact": fact, "hint": hint})
        return value

    return check


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _is_time(value: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_Name = Annotated[
    str,
    AfterValidator(
        _checked(
            lambda name: bool(_NAME.fullmatch(name)),
            "has other characters than letters, digits and . _ -, or more than 64",
            "begin with a letter or digit, then letters, digits and . _ - (64 at most)",
        )
    ),
]
_Digest = Annotated[
    str,
    BeforeValidator(
        _checked(
            _is_digest,
            "is not a SHA-256 in 64 lower-case hex digits",
            "make the key with `vllmstack keys add NAME`; never write the key itself here",
        )
    ),
]
_Time = Annotated[
    str, AfterValidator(_checked(_is_time, "is no time in UTC", "write it like 2026-11-21T12:00:00Z, or leave it out"))
]
_Models = Annotated[tuple[ClientModelName, ...], Field(min_length=1)]
_Limit = Annotated[Whole, Field(ge=1)]


class Priority(StrEnum):
    """Who goes first where requests have to wait."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class ApiKey(Part):
    """One key. A limit that is null does not limit."""

    name: _Name = Field(description="Whose key it is, in logs and metrics.")
    sha256: _Digest = Field(description="The key's SHA-256, in hex.")
    models: _Models | None = Field(default=None, description="Names that may be asked for; null: all.")
    requests_per_minute: _Limit | None = Field(default=None, description="In any minute.")
    tokens_per_minute: _Limit | None = Field(default=None, description="Prompt and answer, in any minute.")
    concurrency: _Limit | None = Field(default=None, description="Requests at the same time.")
    priority: Priority = Field(default=Priority.INTERACTIVE, description="Who goes first in the queue.")
    debug: Flag = Field(default=False, description="May ask why a replica was chosen.")
    created: _Time | None = Field(default=None, description="When it was made, UTC.")


class KeyFile(Part):
    """The whole file."""

    keys: tuple[ApiKey, ...] = Field(description="One entry a key.")


_SHAPE = messages.Shape(KeyFile, REFERENCE)


def new_secret() -> str:
    """A key of 256 random bits. Nobody guesses one, so its hash needs neither salt nor stretching."""
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def digest(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def now() -> str:
    """For ``created``."""
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of a file's text.

    Raises:
        InvalidInput: with every mistake; places are lines, or paths such as ``keys/0/name``; no key is shown.
    """
    data = _json(text)
    try:
        keys = KeyFile.model_validate(data).keys
    except ValidationError as error:
        found = messages.problems(error, data, "", _SHAPE)
        raise InvalidInput([*found, *_repeated(data)]) from None
    taken = [_reserved(f"keys/{index}/name") for index, key in enumerate(keys) if key.name == STACK_NAME]
    if problems := [*taken, *_repeated(data)]:
        raise InvalidInput(problems)
    return keys


def key_file_problems(text: str) -> list[Problem]:
    """Every mistake in the file's text, as :func:`parse_keys` raises them."""
    try:
        parse_keys(text)
    except InvalidInput as error:
        return list(error.problems)
    return []


def keys_text(keys: Sequence[ApiKey]) -> str:
    """The file's text."""
    return json.dumps({"keys": [key.model_dump(mode="json") for key in keys]}, indent=2) + "\n"


def gateway_text(keys: Sequence[ApiKey], stack_secret: str) -> str:
    """What the gateway reads: the users' keys, and the stack's own, which no limit holds."""
    return keys_text([*keys, ApiKey(name=STACK_NAME, sha256=digest(stack_secret))])


def make_key(name: str, secret: str, **settings: Any) -> ApiKey:
    """A key's entry; ``settings`` are fields of ApiKey.

    Raises:
        InvalidInput: a name that is the stack's own or has wrong characters, a limit below 1.
    """
    try:
        key = ApiKey(name=name, sha256=digest(secret), created=now(), **settings)
    except ValidationError as error:
        raise InvalidInput(messages.problems(error, {}, "", messages.Shape(ApiKey, REFERENCE))) from None
    if name == STACK_NAME:
        raise InvalidInput(_reserved("name"))
    return key


def added(keys: Sequence[ApiKey], key: ApiKey) -> tuple[ApiKey, ...]:
    """The keys with one more.

    Raises:
        InvalidInput: the name is taken.
    """
    if any(one.name == key.name for one in keys):
        hint = f"choose another name, or `vllmstack keys revoke {key.name}` first"
        raise InvalidInput(Problem(fact=f"there is a key of {shown(key.name)} already", hint=hint))
    return (*keys, key)


def revoked(keys: Sequence[ApiKey], name: str) -> tuple[ApiKey, ...]:
    """The keys without one.

    Raises:
        InvalidInput: nobody has a key of that name.
    """
    left = tuple(key for key in keys if key.name != name)
    if len(left) == len(keys):
        names = [key.name for key in keys]
        known = f"the names are {listed(names)}" if names else "nobody has one"
        raise InvalidInput(Problem(fact=f"there is no key of {shown(name)}", hint=perhaps(name, names) or known))
    return left


def _json(text: str) -> dict[Any, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(_not_json(text, error)) from None
    except (ValueError, RecursionError):
        raise InvalidInput(Problem(fact="is not JSON of this kind", hint=f"see {REFERENCE}")) from None
    if not isinstance(data, dict):
        raise InvalidInput(
            Problem(fact=f"is {kind(data)}, where a mapping belongs", hint='begin with {"keys": [, or let it be made')
        )
    return data


def _not_json(text: str, error: json.JSONDecodeError) -> Problem:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if lines and all(_OLD_LINE.fullmatch(line) for line in lines):
        return Problem(
            fact="holds `NAME KEY` lines, as before keys were hashed",
            hint=f"move it away and give each client a new key: `vllmstack keys add NAME`; {REFERENCE} tells how to "
            "keep keys that cannot be changed",
        )
    if not text.strip():
        return Problem(fact="is empty", hint='write {"keys": []}, or remove it and `vllmstack keys add NAME`')
    # The decoder's own message shows nothing of the text.
    place = f"line {error.lineno}, column {error.colno}"
    return Problem(
        place=place, fact=f"is not JSON: {error.msg}", hint="check the brackets, quotes and commas before it"
    )


def _reserved(place: str) -> Problem:
    return Problem(place=place, fact=f"{shown(STACK_NAME)} is the stack's own", hint="choose another name")


def _repeated(data: dict[Any, Any]) -> Iterator[Problem]:
    """Names and hashes that two entries share; of a file that may be wrong in other ways too."""
    entries = data.get("keys")
    seen: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        for field in ("name", "sha256"):
            value = entry.get(field) if isinstance(entry, dict) else None
            if not isinstance(value, str):
                continue
            first = seen.setdefault((field, value), index)
            if first != index:
                yield Problem(
                    place=f"keys/{index}/{field}",
                    fact=f"is that of keys/{first} too",
                    hint="remove one of the two entries: a key has one name, and a name one key",
                )
