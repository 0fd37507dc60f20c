"""A stack that is up, for the commands that change one."""

from tests.unit.rolling_machine import rolling

__all__ = ["rolling"]
