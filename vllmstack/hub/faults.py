"""What can go wrong at the hub and on the way from it, as a person reads it."""

import errno
import os

import httpx2
from huggingface_hub import errors

from vllmstack.errors import Problem
from vllmstack.hub.wishes import Wish

LICENCE = "accept its licence on the model's page, put the token of that account into secrets/hub_token"
MIRROR = "check the network, a proxy (HTTPS_PROXY), or name a mirror: HF_ENDPOINT; what has come is kept"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CorruptFile(Exception):
    """What came is not what the hub, or the lock file, says that it is."""

    def __init__(self, path: str, found: str, wanted: str) -> None:
        super().__init__(f"{path} is corrupt: it has the digest {found[:12]}… instead of {wanted[:12]}…")


class ShortFile(Exception):
    """What is sent ends before its end, however often it is asked for the rest. What has come is kept."""

    def __init__(self, path: str, come: int, size: int) -> None:
        super().__init__(f"{path} is corrupt: it ends after {come:,} of {size:,} bytes")


class RefusedContent(Exception):
    """The hub sends to a place that refuses: not for want of a right, which the hub itself would have told."""

    def __init__(self, host: str, status: int) -> None:
        super().__init__(f"{host} answers {status}")


def problem_of(error: Exception, wish: Wish, *, endpoint: str, has_token: bool) -> Problem | None:
    """One fact and its mend; None for what is nobody's fault but ours."""
    fact, hint = _told(error, wish, endpoint, has_token) or ("", "")
    return Problem(file=wish.hub, fact=fact, hint=hint) if fact else None


def _told(error: Exception, wish: Wish, endpoint: str, has_token: bool) -> tuple[str, str] | None:  # noqa: PLR0911, PLR0912
    match error:
        case CorruptFile() | ShortFile():
            return str(error), "pull again; if it stays so, the mirror or the proxy on the way changes files"
        case RefusedContent():
            return f"{error}, where {endpoint} sends to for a file", MIRROR
        case errors.GatedRepoError() if not has_token:
            return "is gated, and there is no token", f"{LICENCE}, and set `source: {{gated: true}}`"
        case errors.GatedRepoError():
            return "is gated, and the token has no access to it", LICENCE
        case errors.RevisionNotFoundError():
            wanted = wish.commit or wish.revision
            return f"has no branch, tag or commit {wanted}", "see the branches and tags on the model's page"
        case errors.DisabledRepoError():
            return "is disabled by the hub", "choose another model"
        case errors.EntryNotFoundError():
            return "lacks a file that it had", "take another revision: `vllmstack models pull --update`"
        case errors.HfHubHTTPError():
            return _status(error, endpoint, has_token)
        case errors.FileMetadataError():
            return f"{endpoint} does not answer as a hub does", "check HF_ENDPOINT, and a proxy on the way"
        case errors.HFValidationError():
            return "is no hub id", "write ORGANISATION/NAME as the hub shows it: at most 96 characters, no -- and no .."
        case httpx2.LocalProtocolError():  # its words may quote a header, and so the token
            return f"{endpoint} cannot be asked: the request is none of HTTP", "check HF_ENDPOINT and the token"
        case httpx2.HTTPError():
            return f"{endpoint} cannot be reached: {_reason(error)}", MIRROR
        case OSError() if error.errno in FULL:
            return "the disk is full", "free space (`vllmstack models list`, `docker system df`); what has come is kept"
        case OSError() if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            where = error.filename or "the volume"
            return (
                f"may not write {where}: an engine of an older release made the volume hub-cache",
                "`vllmstack down`, then `docker volume rm vllmstack_hub-cache`: it is filled again",
            )
        case ValueError() if "too large" in str(error):
            return "has a file of more than 50 GB, which the hub gives to Xet clients alone", "use a sharded variant"
    return None


def _status(error: errors.HfHubHTTPError, endpoint: str, has_token: bool) -> tuple[str, str] | None:
    status = error.response.status_code
    # To those without a token the hub says 401 of what it has not, too.
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404 or (status == 401 and not has_token):
        hidden = "or the token may not see it" if has_token else "or it is private and there is no token"
        return f"the hub has no such model, {hidden}", "check the id, ORGANISATION/NAME, on the hub"
    if status == 401:
        return "the hub does not take the token", "put a valid one into secrets/hub_token"
    if status == 403:
        return "the token may not read it", LICENCE
    if status == 429:
        return "the hub asks to come back later (429)", "wait some minutes, or use a token: it allows more requests"
    return f"{endpoint} answers {status}", MIRROR


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    number = getattr(cause, "errno", None)
    words = os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
    return words.splitlines()[0][:100].lower() if words else type(error).__name__
