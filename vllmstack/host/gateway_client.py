"""The gateway as seen from this host."""

import time
from typing import TypedDict

import httpx2

from vllmstack.errors import InvalidInput, Problem, StackError

ANSWER_SECONDS = 30.0


class _OnThisHost(TypedDict):
    verify: bool
    trust_env: bool


ON_THIS_HOST = _OnThisHost(verify=False, trust_env=False)
"""At an address that the certificate hardly names, and never through HTTP_PROXY."""


def check_address(url: str, place: str = "") -> None:
    """Returns if a client can connect to such an address; ``place`` is where somebody wrote it.

    Raises:
        InvalidInput: it is none; httpx2 itself would tell that in four ways, two of them only when it connects.
    """
    reason = ""
    try:
        parsed = httpx2.URL(url)
        parsed.raw_host.decode("ascii").encode("idna")  # as the socket's own lookup does
        if parsed.scheme not in ("http", "https") or not parsed.host:
            reason = "no http:// or no host"
        elif not 1 <= (1 if parsed.port is None else parsed.port) <= 65535:
            reason = f"there is no port {parsed.port}"
    except (httpx2.InvalidURL, UnicodeError) as error:
        reason = str(error)
    if reason:
        raise InvalidInput(Problem(place=place or url, fact=f"is no address: {reason}", hint="write http://HOST:PORT"))


def trusts_environment(url: str) -> bool:
    """Whether HTTP_PROXY and the like may stand between here and a server that somebody named: not on this host.

    Raises:
        InvalidInput: that is no address.
    """
    check_address(url)
    host = httpx2.URL(url).host
    return not (host in ("localhost", "::1") or host.startswith("127."))


def await_ready(url: str, seconds: float) -> None:
    """Returns once /ready says that every model has a replica that answers.

    Raises:
        StackError: it does not within ``seconds``; with what it said last.
    """
    deadline = time.monotonic() + seconds
    said = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx2.get(f"{url}/ready", timeout=5, **ON_THIS_HOST)
            if answer.status_code == httpx2.codes.OK:
                return
            said = answer.text.strip()[:500]
        except httpx2.HTTPError as error:
            said = str(error)
        time.sleep(0.5)
    raise StackError(
        Problem(fact=f"the gateway is not ready after {seconds:.0f} s: {said}", hint="see .vllmstack/.logs/gateway.log")
    )


def check_key(url: str, key: str | None) -> None:
    """Returns if the gateway lists its models to who has the key.

    Raises:
        StackError: it answers anything else.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.get(f"{url}/v1/models", headers=headers, timeout=ANSWER_SECONDS, **ON_THIS_HOST)
    except httpx2.HTTPError as error:
        raise StackError(
            Problem(fact=f"the gateway does not answer: {error}", hint="see .vllmstack/.logs/gateway.log")
        ) from None
    if answer.status_code != httpx2.codes.OK:
        raise StackError(
            Problem(
                fact=f"the gateway answers {answer.status_code}: {answer.text[:300]}",
                hint="see .vllmstack/.logs/gateway.log",
            )
        )
