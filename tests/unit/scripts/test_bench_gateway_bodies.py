"""The requests that the gateway's cost is measured with."""

import json

from scripts.bench_gateway_bodies import BODIES, BODY_BYTES, TENANTS, bodies, http_request, wrk_script


def test_bodies_have_two_kilobytes_and_differ() -> None:
    written = list(bodies(stream=True, max_tokens=7))

    assert len(set(written)) == BODIES
    assert {len(body) for body in written} == {BODY_BYTES}


def test_bodies_of_one_tenant_share_their_beginning() -> None:
    parsed = [json.loads(body) for body in bodies()]

    assert len({body["messages"][0]["content"] for body in parsed}) == TENANTS
    assert len({body["messages"][-1]["content"] for body in parsed}) == BODIES


def test_a_request_says_how_long_it_is() -> None:
    head, _, body = http_request("host:1", "abc").partition(b"\r\n\r\n")

    assert b"Content-Length: 3" in head
    assert body == b"abc"


def test_wrk_gets_every_body() -> None:
    assert wrk_script().count("[==[{") == BODIES
