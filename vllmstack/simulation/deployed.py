"""The gateway's own policies: docker/gateway/njs/choice.js itself, run by Node.js."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from vllmstack.errors import HostError, Problem
from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.policies import Asked

_RUNNER = Path(__file__).with_name("choice.mjs")


class DeployedPolicy:
    """One of choice.js's policies."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self._name = name
        self._process = process

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """What the gateway would choose."""
        values = [(replica.in_flight, replica.pending_tokens, replica.matched_tokens) for replica in replicas]
        request = {
            "tokens": asked.tokens,
            "session": _digest(asked.session),
            "affinity": _digest(asked.prefix),
            "turn": asked.number,
        }
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 PT018 # PIPE
        self._process.stdin.write(json.dumps([self._name, values, request]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _digest(text: str) -> str:
    """Hexadecimal, as prefix.js hands them to choice.js."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def deployed_policy(name: str, choice_file: Path) -> Iterator[DeployedPolicy]:
    """A policy of ``choice_file``, which is the gateway's choice.js, by the name that a deployment's ``routing`` gives.

    Raises:
        HostError: there is no Node.js.
    """
    node = shutil.which("node")
    if node is None:
        raise HostError(
            Problem(
                fact="there is no Node.js, which runs the gateway's routing in the simulator",
                hint="install it: apt-get install nodejs",
            )
        )
    command = [node, str(_RUNNER), str(choice_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield DeployedPolicy(name, process)
        finally:
            process.terminate()
