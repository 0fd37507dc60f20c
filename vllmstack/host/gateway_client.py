"""The gateway as seen from this host."""

import time

import httpx2

from vllmstack.deployment.model import Model
from vllmstack.errors import Problem, StackError

ANSWER_SECONDS = 120.0


def await_ready(url: str, seconds: float) -> None:
    """Returns once /ready says that every model has a replica that answers.

    Raises:
        StackError: it does not within ``seconds``; with what it said last.
    """
    deadline = time.monotonic() + seconds
    said = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx2.get(f"{url}/ready", timeout=5, verify=False)
            if answer.status_code == httpx2.codes.OK:
                return
            said = answer.text.strip()[:500]
        except httpx2.HTTPError as error:
            said = str(error)
        time.sleep(0.5)
    raise StackError(
        Problem(fact=f"the gateway is not ready after {seconds:.0f} s: {said}", hint="see `vllmstack logs gateway`")
    )


def first_answer(url: str, model: Model, key: str | None) -> None:
    """One token from the model: the first request pays for what engines do lazily.

    Raises:
        StackError: it does not answer.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": model.name, "prompt": "Hello", "max_tokens": 1}
    try:
        answer = httpx2.post(
            f"{url}/v1/completions",
            json=body,
            headers=headers,
            timeout=ANSWER_SECONDS,
            verify=False,
        )
    except httpx2.HTTPError as error:
        raise StackError(Problem(fact=f"{model.name} does not answer: {error}", hint="see `vllmstack logs`")) from None
    # An embedding model has no completions, and says so with 400 or 404: it answers, which is what was asked.
    if answer.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR or answer.status_code in (401, 403, 429):
        raise StackError(
            Problem(fact=f"{model.name} answers {answer.status_code}: {answer.text[:300]}", hint="see `vllmstack logs`")
        )
