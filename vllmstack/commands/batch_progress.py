"""How far a batch is: a bar in a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vllmstack.batch.journal import Journal
from vllmstack.console import notes, step

LINE_SECONDS = 60.0


class BatchProgress:
    """A context manager; ``moved`` is called after each line."""

    def __init__(self, lines: int, journal: Journal) -> None:
        self._lines = lines
        self._journal = journal
        self._began = self._said = time.monotonic()
        self._before = journal.done.count
        self._bar: Progress | None = None
        if notes.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[failed]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=notes,
                transient=True,
            )
            self._task = self._bar.add_task("lines", total=lines, completed=self._before, failed="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def moved(self) -> None:
        """One more is done."""
        done, failed = self._journal.done.count, self._journal.failed
        if self._bar:
            self._bar.update(self._task, completed=done, failed=f"{failed:,} failed" if failed else "")
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            rate = (done - self._before) / (self._said - self._began)
            step(f"{done:,} of {self._lines:,} lines, {failed:,} of them failed, {rate:,.1f} a second")
