"""How far a large file is, in a terminal; elsewhere nothing."""

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vllmstack.console import notes


@contextlib.contextmanager
def byte_progress(doing: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Yields what is called with the bytes since the last call."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,  # else it leaves an empty line
    ) as progress:
        task = progress.add_task(doing, total=total_bytes)

        def moved(count: int) -> None:
            progress.advance(task, count)

        yield moved
