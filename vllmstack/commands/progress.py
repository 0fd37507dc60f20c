"""What `up` shows while engines start: a live table in a terminal, a line a change elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from vllmstack.console import notes, step
from vllmstack.host.containers import Container

DONE = ("serving", "healthy", "done")


class Progress:
    """A context manager; ``show`` is called with what was seen, about once a second."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._phases: dict[str, str] = {}
        self._finished: dict[str, float] = {}
        self._live = Live(console=notes, refresh_per_second=8, transient=False) if notes.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, seen: list[tuple[Container, str]]) -> None:
        """Each container with its phase."""
        elapsed = time.monotonic() - self._started
        for container, phase in seen:
            if self._phases.get(container.service) != phase:
                self._phases[container.service] = phase
                if not self._live:
                    step(f"{elapsed:5.0f} s  {container.service}: {phase}")
            if phase in DONE:
                self._finished.setdefault(container.service, elapsed)
        if self._live:
            self._live.update(self._table(seen, elapsed))

    def _table(self, seen: list[tuple[Container, str]], elapsed: float) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for container, phase in seen:
            done = phase in DONE
            mark = "[green]✓[/green]" if done else Spinner("dots")
            seconds = self._finished.get(container.service, elapsed)
            table.add_row(mark, container.service, f"[{'green' if done else 'yellow'}]{phase}[/]", f"{seconds:.0f} s")
        return table
