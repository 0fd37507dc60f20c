"""Prometheus, asked inside its own container: nothing of it is published."""

import json

import docker
import docker.errors
import requests.exceptions

from vllmstack.errors import Problem, StackError
from vllmstack.host.containers import containers
from vllmstack.stack_view import Sample

SERVICE = "prometheus"
QUERY = ("/bin/promtool", "query", "instant", "--format=json", "http://127.0.0.1:9090")
"""In the upstream image and in ours; a process of 0.1 s, so that whoever asks often asks everything at once."""
TRIES = 3


def ask(client: docker.DockerClient, expression: str) -> list[Sample]:
    """The instant vector that the expression has now.

    Raises:
        StackError: Prometheus does not run or does not answer, with what it said.
    """
    said = ""
    # On a busy machine Docker 20.10 was seen to hand over nothing; promtool itself always says something.
    for _ in range(TRIES):
        try:
            one = next((one for one in containers(client) if one.service == SERVICE and one.status == "running"), None)
            if one is None:
                raise _problem("does not run", hint="run `vllmstack up`; `vllmstack status` needs none")
            done = client.containers.get(one.identity).exec_run([*QUERY, expression])
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise _problem(f"cannot be asked: {error}") from None
        said = done.output.decode(errors="replace").strip() if isinstance(done.output, bytes) else ""
        if done.exit_code != 0:
            break
        if said:
            return _samples(said)
    raise _problem(f"does not answer: {' '.join(said.split())[-300:] or 'it says nothing'}")


def _samples(text: str) -> list[Sample]:
    try:
        # A value is a pair: when, in seconds, and the number as text, which may be NaN or +Inf.
        return [Sample(labels=row["metric"], value=float(row["value"][1])) for row in json.loads(text)]
    except (ValueError, TypeError, KeyError, IndexError):
        raise _problem(f"answers something else than samples: {text[:200]!r}") from None


def _problem(fact: str, hint: str = "see `vllmstack logs prometheus`; `vllmstack status` needs none") -> StackError:
    return StackError(Problem(file=SERVICE, fact=fact, hint=hint))
