"""What is shown while models come: a bar in a terminal, a line now and then elsewhere."""

from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as Speed

from vllmstack.console import notes, step
from vllmstack.host.preloading import told_now_and_then


class ModelProgress:
    """A context manager; ``show`` is called with each line that the container says."""

    def __init__(self) -> None:
        self._lines = told_now_and_then()
        self._tasks: dict[str, TaskID] = {}
        columns = (TextColumn("{task.description}"), BarColumn(20), DownloadColumn(), Speed(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=notes) if notes.is_terminal else None

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, line: dict[str, Any]) -> None:
        """One line: bytes move the model's bar, anything else is told."""
        if self._bars is None:
            self._lines(line)
            return
        if "progress" in line:
            one = line["progress"]
            name = one["hub"].rpartition("/")[2][:24]
            if one["hub"] not in self._tasks:
                self._tasks[one["hub"]] = self._bars.add_task(name, total=one["total"])
            self._bars.update(self._tasks[one["hub"]], completed=one["done"], total=one["total"])
        elif "problem" not in line:
            step(str(line["message"]))
