"""Pieces of JSON, and of what is nearly JSON, made from a seed."""

import json
import random
from collections.abc import Callable

FIELDS = (
    "model", "messages", "prompt", "prompts", "tools", "tool_calls", "role", "content", "stream", "stream_options",
    "include_usage", "continuous_usage_stats", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "user",
    "prompt_cache_key", "input", "instructions", "query", "text", "type",
)  # fmt: skip
"""Whatever the gateway looks at."""

TRAPS = (
    "__proto__", "constructor", "prototype", "hasOwnProperty", "toString", "valueOf", "toJSON", "length", "then", "0",
    "", "name", "stack", "caller", "__defineGetter__", "|", "a|b", "\u0000", "\n", '"', "\\", "../..", "%00", "${x}",
    "smoke\u0000", " smoke", "SMOKE", "smoke ", "é", "\U0001f600", "\u2028", "x" * 300,
)  # fmt: skip
"""Names that mean something in JavaScript, in shared memory or in a log."""

NUMBERS = (
    b"0", b"-0", b"1", b"-1", b"0.1", b"1e999", b"-1e999", b"1e-999", b"9007199254740993", b"18446744073709551616",
    b"2147483648", b"-2147483649", b"9" * 400, b"0." + b"0" * 400 + b"1", b"1E+2", b"4294967296",
)  # fmt: skip

NO_JSON = (
    b"NaN", b"Infinity", b"-Infinity", b"undefined", b"01", b"+1", b".5", b"1.", b"0x10", b"1e", b"--1", b"'a'",
    b"`a`", b'"a', b'"\\q"', b'"\\u12"', b'"\n"', b"tru", b"True", b"None", b"/**/1", b"1//x", b"[1,]", b"[,1]",
    b"{a:1}", b'{"a" 1}', b'{"a":1,}', b'{"a":}', b"{,}", b"[1 2]", b"]", b"}", b",", b":", b"\x00", b'"\x00"', b"\xff",
)  # fmt: skip

NO_UTF_8 = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xf8\x88\x80\x80\x80")


def text(rng: random.Random) -> bytes:
    """A string, more or less."""
    choices: tuple[Callable[[], bytes], ...] = (
        lambda: json.dumps(rng.choice(TRAPS)).encode(),
        lambda: json.dumps("".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(20)))).encode(),
        lambda: json.dumps("word " * rng.randrange(200), ensure_ascii=False).encode(),
        lambda: b'"\\ud800"',
        lambda: b'"\\udc00\\ud800"',
        lambda: b'"' + rng.choice(NO_UTF_8) + b'"',
    )
    return rng.choice(choices)()


def value(rng: random.Random, depth: int = 0) -> bytes:
    """Any JSON value; what it holds is as arbitrary."""
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return text(rng)
    if kind == 4:
        return rng.choice((b"null", b"true", b"false", b"[]", b"{}", b'""'))
    if kind == 5:
        return b"[" + b",".join(value(rng, depth + 1) for _ in range(rng.randrange(5))) + b"]"
    members = (
        json.dumps(rng.choice(TRAPS + FIELDS)).encode() + b":" + value(rng, depth + 1) for _ in range(rng.randrange(5))
    )
    return b"{" + b",".join(members) + b"}"


def escaped(name: str, rng: random.Random) -> bytes:
    """A key with some of its letters as ``\\u…``: the same key."""
    letters = (f"\\u{ord(letter):04x}" if rng.random() < 0.4 else letter for letter in name)
    return b'"' + "".join(letters).encode() + b'"'


def written(members: list[tuple[bytes, bytes]]) -> bytes:
    """An object as it is written, with its keys in this order, however often each is there."""
    return b"{" + b",".join(key + b":" + content for key, content in members) + b"}"
