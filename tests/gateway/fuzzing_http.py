"""Hostile HTTP, made from a seed: what is no request, what two readers would read in two ways, and what never ends.

An inner request that must stay part of a body, or be refused with it, has an id that begins with ``smuggled``.
"""

import json
import random
from collections.abc import Callable, Iterator

from tests.gateway.fuzzing import CHAT, COMPLETIONS, Case, marker_of, posted

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
"""Of a path that an engine serves: what passes here reaches one."""


def said(marker: str) -> bytes:
    """An honest body."""
    return json.dumps({"model": "smoke", "prompt": marker}).encode()


def request(marker: str, *headers: bytes, body: bytes | None = None, last: bool = True) -> bytes:
    """An honest request; the last of a connection says so."""
    content = said(marker) if body is None else body
    head = [b"X-Request-Id: " + marker.encode(), *headers, b"Content-Length: %d" % len(content)]
    return HEAD + b"\r\n".join([*head, *([b"Connection: close"] if last else []), b"", content])


def smuggled(number: int) -> bytes:
    """What must never be a request."""
    return request(f"smuggled-{number}z")


Maker = Callable[[int, random.Random], Case]


def doubtful(kind: str, marker: str, sent: bytes) -> Case:
    """One connection that may end in any way but an answer of another's."""
    return Case(kind=kind, markers=(marker,), pieces=(sent,), cut=True)


def request_line(number: int, rng: random.Random) -> Case:
    """The first line is noise, or nearly right."""
    target = rng.choice((
        b"/v1/completions", b"*", b"http://evil/v1/completions", b"//v1/completions", b"/v1/./completions", b"/%00",
        b"/v1/completions", b"/v1/completions", b"/%", b"/%zz", b"/..", b"/../../etc/passwd", b"/v1/completions%00",
        b"/v1/completions/", b"/V1/COMPLETIONS", b"/v1/models/%ff%00", b"/v1/models/__proto__",
        b"/v1/models/" + b"a" * 3000, b"/-/mirror", b"/-/replicas", b"/_error", b"/metrics", b"/invocations",
        b"/\xff\xfe", b"/?" + b"a=b&" * 900, b"/" + b"a" * 9000, b"", b"x", b"/#", b"/ x", b"/v1/completions?\x01",
        b"/v1/models/a%0d%0aX: y",
    ))  # fmt: skip
    method = rng.choice(
        (b"GET", b"POST", b"HEADER", b"get", b"G\x00T", b"", b"PUT", b"DELETE", b"TRACE", b"CONNECT", b"A" * 200)
    )
    version = rng.choice(
        (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/1.", b"http/1.1", b"", b"HTTP/2.0", b"X")
    )
    line = rng.choice(
        (method + b" " + target + b" " + version, rng.randbytes(rng.randrange(1, 200)).replace(b"\n", b"\r"))
    )
    end = rng.choice((b"\r\n", b"\r\n", b"\n", b"\r\r\n"))
    return doubtful(
        f"request line {line[:40]!r}", marker_of("line", number), line + end + b"Host: x\r\nConnection: close\r\n\r\n"
    )


def header(number: int, rng: random.Random) -> Case:
    """One header is no header, or one too large."""
    marker = marker_of("header", number)
    line = rng.choice((
        b"A: a\x00b", b"A\x00: b", b"A: b\rC: d", b"A : b", b" A: b", b"A: b\r\n folded",
        b"A: b\r\n\tX-Request-Id: smuggled-1", b": b", b"A", b"A: " + b"a" * 8200, b"A: " + b"a" * 60000,
        b"a" * 9000 + b": b", b"A: b\r\n" * 900 + b"B: c", b"A: \xff\xfe", b"\xff: b", b"Host: y", b"Host:",
        b"Host: a b", b"Host: a/b", b"Host: [::1", b"Content-Type: a\x7fb", b"Expect: 100-continue",
        b"Expect: nonsense", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk", b"Connection: Upgrade, x", b"TE: trailers",
        b"Range: bytes=0-1", b"Accept: \xff", b"X-Request-Id: fuzz-other", b"Traceparent: \xff\xff",
        b"Accept: a\rX-Injected: smuggled-1", b"Content-Encoding: gzip", b"If-Match: x",
        b"X-Accel-Redirect: /-/mirror", b"X-HTTP-Method-Override: DELETE", b"Cookie: " + b"a=b;" * 1500,
        b"Proxy-Connection: x", b"A: b\nC: d",
    ))  # fmt: skip
    return doubtful(f"header {line[:40]!r}", marker, request(marker, line))


def length(number: int, rng: random.Random) -> Case:
    """A length that is none, or not the body's."""
    marker = marker_of("length", number)
    body = said(marker)
    told = rng.choice((
        b"-1", b"+%d" % len(body), b"%d, %d" % (len(body), len(body)), b"%d,1" % len(body), b"0x%x" % len(body), b"",
        b" ", b"1e2", b"18446744073709551616", b"9" * 60, b"%d.0" % len(body),
        b"%d\r\nContent-Length: %d" % (len(body), len(body)), b"%d\r\nContent-Length: 1" % len(body),
        b"1\r\nContent-Length: %d" % len(body), b"\xb2", b"%d" % (len(body) + 50), b"%d" % (1 << 31), b"99999999999",
        b"%d\x00" % len(body), b"5", b"%d a" % len(body), b"00000%d" % len(body),
    ))  # fmt: skip
    head = HEAD + b"X-Request-Id: " + marker.encode() + b"\r\nConnection: close\r\nContent-Length: " + told
    return doubtful(f"length {told[:30]!r}", marker, head + b"\r\n\r\n" + body)


def two_lengths(number: int, rng: random.Random) -> Case:
    """CL.TE, TE.CL and TE.TE: a length and chunks at once, or chunks that only one reader sees."""
    marker = marker_of("two-lengths", number)
    body = said(marker)
    coding = rng.choice((
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"Transfer-Encoding:\r\n chunked",
        b"X: y\r\n Transfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: \x00chunked", b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer_Encoding: chunked",
        b"Transfer-Encoding:", b"Transfer-Encoding: CHUNKED\r\nTransfer-encoding: cow",
    ))  # fmt: skip
    inner = b"0\r\n\r\n" + smuggled(number)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    content = rng.choice((inner, chunked, b"%x\r\n%s\r\n" % (len(inner), inner) + b"0\r\n\r\n"))
    told = rng.choice((len(content), len(content), 4, len(content) + 6))
    lines = [b"Content-Length: %d" % told, coding]
    rng.shuffle(lines)
    head = HEAD + b"X-Request-Id: " + marker.encode() + b"\r\nConnection: close\r\n"
    return doubtful(f"two lengths {lines!r}", marker, head + b"\r\n".join(lines) + b"\r\n\r\n" + content)


def chunks(number: int, rng: random.Random) -> Case:
    """Chunks whose sizes are none, whose ends are missing, or that hide a request."""
    marker = marker_of("chunks", number)
    body = said(marker)
    size = b"%x" % len(body)
    version = rng.choice((b"1.1", b"1.1", b"1.1", b"1.0"))
    inner = smuggled(number)
    end = b"\r\n0\r\n\r\n"
    content = rng.choice((
        b"zz\r\n" + body, b"-1\r\n" + body, b"0x" + size + b"\r\n" + body + end, b"ffffffffffffffff\r\n" + body,
        b"fffffffffffffffffffffff1\r\n" + body, b"\r\n" + body, size + b"\r\n" + body + b"0\r\n\r\n",
        size + b";" + b"e" * 9000 + b"\r\n" + body + end, size + b";a=\xff\x00\r\n" + body + end,
        size + b"\n" + body + b"\n0\n\n", size + b" \r\n" + body + end, b" " + size + b"\r\n" + body + end,
        b"0" * 200 + size + b"\r\n" + body + end,
        size + b"\r\n" + body + b"\r\n0\r\nX-Request-Id: smuggled-1\r\n\r\n",
        size + b"\r\n" + body + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
        size + b"\r\n" + body + b"\r\n0\r\nA: \x00\r\n\r\n",
        size + b"\r\n" + body + b"\r\n0\r\n" + b"A: b\r\n" * 2000 + b"\r\n", size + b"\r\n" + body,
        b"1\r\n{\r\n1\r\n", b"%x\r\n%s" % (len(inner), inner) + end, b"1\r\nZ\r\n0\r\n\r", size + b"\r\r\n" + body,
        size + b"\r" + body,
    ))  # fmt: skip
    head = HEAD.replace(b"1.1", version) + b"X-Request-Id: " + marker.encode()
    head += b"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return doubtful(f"chunks {content[:30]!r}", marker, head + content)


def pipeline(number: int, rng: random.Random) -> Case:
    """Several requests at once, of which each must get its own answer, in order."""
    count = rng.randrange(2, 6)
    markers = tuple(marker_of(f"pipeline-{number}", place) for place in range(count))
    written = [
        posted(rng.choice((CHAT, COMPLETIONS)), marker, said(marker), [b"Content-Type: application/json"], rng)
        for marker in markers[:-1]
    ]
    whole = b"".join([*written, request(markers[-1])])
    cuts = sorted(rng.randrange(len(whole)) for _ in range(rng.randrange(3)))
    pieces = tuple(whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    return Case(kind="pipeline", markers=markers, pieces=pieces, bodies=tuple(said(marker) for marker in markers))


def followed(number: int, rng: random.Random) -> Case:
    """An honest request, and then what is none: the first gets its answer."""
    marker = marker_of("followed", number)
    rest = rng.choice(
        (rng.randbytes(200), b"\x00" * 50, said(marker), b"\r\n" * 30 + b"x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n")
    )
    pieces = (request(marker, last=False) + rest.replace(b"\n", b"\r") + b"\r\n\r\n",)
    return Case(kind="followed", markers=(marker,), pieces=pieces, bodies=(said(marker),), cut=True)


def unfinished(number: int, rng: random.Random) -> Case:
    """It ends in the middle, and nothing more comes."""
    marker = marker_of("unfinished", number)
    whole = request(marker)
    return doubtful("unfinished", marker, whole[: rng.randrange(1, len(whole))])


KINDS: dict[Maker, int] = {
    request_line: 18, header: 18, length: 12, two_lengths: 16, chunks: 16, pipeline: 8, followed: 6, unfinished: 6,
}  # fmt: skip
"""How many in a hundred."""


def broken(count: int, rng: random.Random) -> Iterator[Case]:
    """Connections whose HTTP is wrong."""
    for number, make in enumerate(rng.choices(tuple(KINDS), tuple(KINDS.values()), k=count)):
        yield make(number, rng)


def slow(count: int, rng: random.Random) -> Iterator[Case]:
    """Clients that take their time: half of them come to an end, half of them never do."""
    for number in range(count):
        marker = marker_of("slow", number)
        whole = request(marker)
        body_at = whole.index(b"\r\n\r\n") + 4
        if number % 2 == 0:
            steps = sorted(rng.sample(range(1, len(whole)), 12))
            pieces = tuple(whole[start:end] for start, end in zip([0, *steps], [*steps, len(whole)], strict=True))
            yield Case(kind="slow", markers=(marker,), pieces=pieces, bodies=(said(marker),), pause_seconds=0.2)
        else:
            end = rng.choice((body_at - 9, body_at, body_at + 7))
            yield Case(kind="stalled", markers=(marker,), pieces=(whole[:end],), stalls=True)
