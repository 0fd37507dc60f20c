"""Hostile requests, made from a seed: bodies that are no JSON, or not the JSON that was meant, and keys that are none.

What is wrong with HTTP itself is in ``fuzzing_http.py``.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.gateway.fuzzing_json import FIELDS, NO_JSON, TRAPS, escaped, value, written

CHAT, COMPLETIONS, GENERATE, BATCH = "/v1/chat/completions", "/v1/completions", "/generate", "/batch_generate"
PATHS = (CHAT, COMPLETIONS, "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/detokenize")
MODELS = ("smoke", "tiny", "org/tiny", "org/Other:1")

KNOWN_KEY = "sk-known-0123456789abcdef"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one connection sends, and what may come back."""

    kind: str
    markers: tuple[str, ...]
    """The request ids of what it sends, in order; nobody else's may come back."""
    pieces: tuple[bytes, ...]
    """Written apart."""
    bodies: tuple[bytes, ...] = ()
    """By marker, where an engine must get exactly this one."""
    keeps: bool = False
    """One request with one answer, after which the connection may be used again."""
    pause_seconds: float = 0
    """Between the pieces."""
    cut: bool = False
    """It need not be a whole request, and then ends without an answer when the client says that nothing more comes."""
    stalls: bool = False
    """It is no whole request, and the client says nothing more at all."""
    admitted: bool = True
    """Whether an engine may see it."""


def marker_of(kind: str, number: int) -> str:
    """``fuzz-deep-17z``: it is searched for in everybody else's answers; the letter is its end."""
    return f"fuzz-{kind.replace('_', '-')}-{number}z"


def honest(path: str, marker: str, rng: random.Random) -> list[tuple[bytes, bytes]]:
    """What a client of good will sends."""
    members = [(b'"model"', json.dumps(rng.choice(MODELS)).encode())]
    said = json.dumps(f"{marker} says " + "a word " * rng.randrange(60)).encode()
    if path == CHAT:
        members.append((b'"messages"', b'[{"role":"user","content":' + said + b"}]"))
    elif path == BATCH:
        members.append((b'"prompts"', b"[" + said + b"," + said + b"]"))
    elif path in (COMPLETIONS, GENERATE):
        members.append((b'"prompt"', said))
    else:
        members.append((b'"input"', said))
    return members


# ---------------------------------------------------------------------------------------------------------------------
# Bodies, by what is wrong with them

Maker = Callable[[str, str, random.Random], bytes]


def wrong_types(path: str, marker: str, rng: random.Random) -> bytes:
    """One field or several hold what they must not."""
    members = honest(path, marker, rng)
    for field in rng.sample(FIELDS[1:], rng.randrange(1, 4)):
        members = [member for member in members if member[0] != b'"%s"' % field.encode()]
        members.append((b'"%s"' % field.encode(), value(rng)))
    rng.shuffle(members)
    return written(members)


def wrong_messages(path: str, marker: str, rng: random.Random) -> bytes:
    """Messages whose parts are anything."""
    message = b'{"role":%s,"content":%s,"tool_calls":%s}'
    parts = [rng.choice((value(rng), message % (value(rng), value(rng), value(rng)))) for _ in range(rng.randrange(6))]
    said = json.dumps({"role": "user", "content": marker}).encode()
    members = [(b'"model"', b'"smoke"'), (b'"messages"', b"[" + b",".join([*parts, said]) + b"]")]
    members.append((b'"tools"', value(rng)))
    members.append((b'"stream_options"', value(rng)))
    return written(members[: rng.randrange(2, 5)])


def wrong_model(path: str, marker: str, rng: random.Random) -> bytes:
    """A model that is no name, or nobody's."""
    return written([*honest(path, marker, rng)[1:], (b'"model"', value(rng, depth=rng.randrange(5)))])


def odd_keys(path: str, marker: str, rng: random.Random) -> bytes:
    """Keys twice, escaped, and keys that objects of JavaScript have already."""
    members = honest(path, marker, rng)
    members += [(escaped(rng.choice(FIELDS[1:]), rng), value(rng)) for _ in range(rng.randrange(3))]
    members += [(escaped(rng.choice(TRAPS[:12]), rng), value(rng)) for _ in range(rng.randrange(3))]
    members += [(escaped("model", rng), json.dumps(rng.choice(MODELS)).encode()) for _ in range(rng.randrange(3))]
    rng.shuffle(members)
    return written(members)


def no_json(path: str, marker: str, rng: random.Random) -> bytes:
    """A value that no JSON has."""
    field = b'"%s"' % rng.choice(FIELDS).encode()
    return written([*honest(path, marker, rng), (field, rng.choice(NO_JSON))])


def damaged(path: str, marker: str, rng: random.Random) -> bytes:
    """Some bytes of an honest body cut out, changed, repeated or put in."""
    body = bytearray(written(honest(path, "@", rng)))  # a marker with a hole would be another's
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(body) + 1)
        end = min(len(body), at + rng.randrange(1, 9))
        body[at:end] = rng.choice((b"", bytes([rng.randrange(256)]), body[at:end] * 2, rng.choice(NO_JSON)))
    return bytes(body).replace(b"@", marker.encode())


def noise(path: str, marker: str, rng: random.Random) -> bytes:
    """Bytes."""
    honest_body = written(honest(path, marker, rng))
    choices = (
        rng.randbytes(rng.randrange(400)),
        bytes(rng.choice(b'[]{}",:\\0e. n') for _ in range(rng.randrange(400))),
        rng.choice((b"", b" ", b"\n\n", b"null", b"true", b"5", b'"smoke"', b"[]", b"{}", b"[{}]", b"{", b"[", b'"')),
        b"\xef\xbb\xbf" + honest_body,
        honest_body.decode().encode(rng.choice(("utf-16", "utf-32", "utf-7"))),
        honest_body + rng.choice((b"\x00", b"{}", b"\n\n x", b",", b"//", honest_body)),
        b"model=smoke&prompt=" + marker.encode(),
    )
    return rng.choice(choices)


def deep(path: str, marker: str, rng: random.Random) -> bytes:
    """Nested as deep as bodies are parsed, deeper, and much deeper; whole or without an end."""
    levels = rng.choice((32, 64, 100, 500, 990, 997, 998, 999, 1000, 1001, 5000, 20000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"model":', b"}"), (b'[{"a":', b"}]")))
    whole = rng.random() < 0.7
    nested = opening * levels + rng.choice((b"1", b'"\\"}]"', b'"model"')) + (closing * levels if whole else b"")
    field = b'"%s"' % rng.choice(FIELDS[1:]).encode()
    members = honest(path, marker, rng)
    members.insert(rng.randrange(3) if whole else len(members), (field, nested))
    if rng.random() < 0.3:
        members.append((b'"%s"' % rng.choice(FIELDS).encode(), b'"model"'))
    return written(members)


def large(path: str, marker: str, rng: random.Random) -> bytes:
    """More parts than anybody's: each takes many times its length of memory."""
    count = rng.choice((30_000, 60_000))
    part = rng.choice((b"[]", b"{}", b'"a"', b"1", b'{"a":1}', b'[["\\""]]'))
    field = b'"%s"' % rng.choice(("messages", "tools", "prompt", "x", "content")).encode()
    members = [*honest(path, marker, rng), (field, b"[" + b",".join([part] * count) + b"]")]
    if rng.random() < 0.5:
        members.append((b'"deep"', b"[" * 40 + b"]" * 40))
    return written(members)


def heavy(size: int) -> Iterator[tuple[str, bytes]]:
    """Bodies of so many bytes that are made to take a worker's time, or all of its memory, by what is in them."""
    start, nested = b'{"model":"smoke",', b'"d":' + b"[" * 40 + b"]" * 40 + b","
    yield "lists", start + b'"tools":[' + b"[]," * (size // 3) + b"1]}"
    yield "messages", start + b'"messages":[' + b"{}," * (size // 3) + b"{}]}"
    yield "numbers", start + b'"prompt":[' + b"1," * (size // 2) + b"1]}"
    yield "depth", start + b'"a":' + b"[" * size
    yield "quotes", start + nested + b'"a":"' + b'\\"' * (size // 2) + b'"}'
    yield "backslashes", start + nested + b'"a":"' + b"\\\\" * (size // 2) + b'"}'
    yield "spaces", start + nested + b'"model"' + b" " * size + b':"tiny"}'


BODIES: dict[Maker, int] = {
    wrong_types: 24, wrong_messages: 22, wrong_model: 10, odd_keys: 10, no_json: 8, damaged: 12, noise: 8, deep: 5,
}  # fmt: skip
"""How many in a hundred."""


# ---------------------------------------------------------------------------------------------------------------------
# Requests

SESSIONS = (b"s1", b"", b"x" * 4000, b"\xff\xfe", b"__proto__", b"a|b", b"\t", b'"', "é".encode())
TYPES = (b"application/json", b"text/plain", b"multipart/form-data; boundary=x", b"", b"x; charset=utf-16")
CREDENTIALS = (
    b"Bearer", b"Bearer ", b"bearer sk-wrong", b"Bearer " + KNOWN_KEY.encode()[:-1], b"Bearer x" + KNOWN_KEY.encode(),
    b"Basic " + KNOWN_KEY.encode(), b"Bearer " + b"k" * 7000, b"Bearer " + b"k" * 9000, b"Bearer \xff\xfe\x80",
    b"Bearer __proto__", b"Bearer loaded", b"Bearer stamp", b"Bearer \xc0\x80", b"\xff", b"Bearer " + b"\xc3\xa9" * 99,
    KNOWN_KEY.encode(), b"Bearer " + KNOWN_KEY.encode() + b" x", b"Bearer\t" + KNOWN_KEY.encode(), b"", b"Bearer |",
)  # fmt: skip
"""None of them is a key that is known."""


def posted(path: str, marker: str, body: bytes, headers: list[bytes], rng: random.Random) -> bytes:
    """A request of HTTP that is right."""
    head = [b"POST %s HTTP/1.1" % path.encode(), b"Host: x", b"X-Request-Id: " + marker.encode(), *headers]
    if rng.random() < 0.8:
        return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])
    size = rng.choice((1, 7, 100, 4096)) if len(body) < 9000 else len(body)
    parts = (body[start : start + size] for start in range(0, len(body), size))
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"\r\n".join([*head, b"Transfer-Encoding: chunked", b"", chunks + b"0\r\n\r\n"])


def bodied(make: Maker, number: int, rng: random.Random, credentials: bytes | None) -> Case:
    """One body of a kind; ``credentials`` are None where no key is asked for."""
    marker = marker_of(make.__name__, number)
    path = rng.choice((CHAT, CHAT, CHAT, COMPLETIONS, GENERATE, BATCH, rng.choice(PATHS)))
    body = make(path, marker, rng)
    headers = [b"Content-Type: " + rng.choice(TYPES)]
    if rng.random() < 0.3:
        headers.append(b"X-Session-Id: " + rng.choice(SESSIONS))
    if credentials is not None:
        headers.append(b"Authorization: " + credentials)
    native = path in (GENERATE, BATCH)
    return Case(
        kind=f"{make.__name__} {path}", markers=(marker,), pieces=(posted(path, marker, body, headers, rng),),
        bodies=() if native else (body,), keeps=True, admitted=credentials is None or credentials == known(),
    )  # fmt: skip


def known() -> bytes:
    """The header's value with the key that is known."""
    return b"Bearer " + KNOWN_KEY.encode()


def bodies(count: int, rng: random.Random) -> Iterator[Case]:
    """Requests whose bodies are wrong; a few of them are large."""
    makers = rng.choices(tuple(BODIES), tuple(BODIES.values()), k=count)
    makers[: count // 200] = [large] * (count // 200)
    rng.shuffle(makers)
    for number, make in enumerate(makers):
        yield bodied(make, number, rng, None)


def keyed(count: int, rng: random.Random) -> Iterator[Case]:
    """The same where keys are asked for, with one that is known, and mostly with none."""
    makers = rng.choices(tuple(BODIES), tuple(BODIES.values()), k=count)
    for number, make in enumerate(makers):
        credentials = known() if rng.random() < 0.3 else rng.choice(CREDENTIALS)
        yield bodied(make, 1_000_000 + number, rng, credentials)
