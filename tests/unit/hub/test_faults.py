"""What only seldom happens, in a person's words; what the hub itself says is in test_download.py."""

import errno

import httpx2
import pytest
from huggingface_hub import errors

from vllmstack.errors import Problem
from vllmstack.hub.faults import problem_of
from vllmstack.hub.wishes import Wish

pytestmark = pytest.mark.slow

WISH = Wish(hub="org/m", revision="v1")


def told(error: Exception, *, has_token: bool = False) -> Problem | None:
    return problem_of(error, WISH, endpoint="https://hub", has_token=has_token)


def http(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    response = httpx2.Response(status, request=httpx2.Request("GET", "https://hub/org/m"))
    return kind("no", response=response)


@pytest.mark.parametrize(
    ("error", "fact", "hint"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full", "free space"),
        (OSError(errno.EROFS, "Read-only", "/hub/x"), "may not write /hub/x: ", "docker volume rm"),
        (PermissionError(errno.EACCES, "denied", "/hub/x"), "may not write /hub/x: ", "it is filled again"),
        (http(errors.DisabledRepoError, 403), "is disabled by the hub", "choose another model"),
        (http(errors.RemoteEntryNotFoundError, 404), "lacks a file that it had", "--update"),
        (http(errors.HfHubHTTPError, 418), "https://hub answers 418", "HF_ENDPOINT"),
        (ValueError("The file is too large to be downloaded"), "has a file of more than 50 GB", "sharded"),
        (httpx2.ReadTimeout("timed out"), "https://hub cannot be reached: timed out", "HTTPS_PROXY"),
        (errors.HFValidationError("Repo id must be…"), "is no hub id", "ORGANISATION/NAME"),
        (httpx2.LocalProtocolError("x"), "https://hub cannot be asked: ", "the token"),
        (httpx2.ProxyError("407 Proxy Authentication Required"), "https://hub cannot be reached: 407", "HTTPS_PROXY"),
    ],
)
def test_one_fact_and_its_mend(error: Exception, fact: str, hint: str) -> None:
    problem = told(error)

    assert problem
    assert problem.file == "org/m"
    assert problem.fact.startswith(fact)
    assert hint in problem.hint
    assert "\n" not in problem.fact + problem.hint


def test_a_header_that_the_library_refuses_is_not_quoted() -> None:
    problem = told(httpx2.LocalProtocolError("Illegal header value b'Bearer hf_secret\\nhf_other'"), has_token=True)

    assert problem
    assert "hf_" not in str(problem).lower().replace("hf_endpoint", "")


def test_what_is_our_own_mistake_stays_an_exception() -> None:
    assert told(KeyError("oops")) is None
    assert told(OSError(errno.EINVAL, "Invalid argument")) is None
