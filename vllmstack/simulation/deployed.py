"""The gateway's own policies: docker/gateway/lua/choice.lua itself, run by LuaJIT as in the gateway."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lupa.luajit21 import LuaRuntime

from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.policies import Asked


class DeployedPolicy:
    """A policy of the gateway's choice.lua, by the name that a deployment's ``routing`` gives."""

    def __init__(self, name: str, choice_file: Path) -> None:
        self._name = name
        self._lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False)
        self._choose: Callable[..., tuple[int, str]] = self._lua.execute(choice_file.read_text()).choose

    def choose(self, asked: Asked, replicas: Sequence[ReplicaView]) -> int:
        """What the gateway would choose."""
        index, _ = self._choose(
            self._name,
            self._lua.table_from([self._told(number, replica) for number, replica in enumerate(replicas, 1)]),
            self._lua.table(
                tokens=asked.tokens, session=_digest(asked.session), affinity=_digest(asked.prefix), turn=asked.number
            ),
        )
        return index - 1

    def _told(self, number: int, replica: ReplicaView) -> Any:
        return self._lua.table(
            number=number,
            in_flight=replica.in_flight,
            pending=replica.pending_tokens,
            matched=replica.matched_tokens,
            weight=1,
        )


def _digest(text: str) -> int:
    """32 bits, as prefix.lua hands them to choice.lua."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), signed=True)
