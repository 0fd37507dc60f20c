"""A stack that is up, for what changes one."""

from tests.unit.rolling_machine import rolling

__all__ = ["rolling"]
