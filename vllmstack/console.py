"""How the command line speaks: progress on standard error, results on standard output."""

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False, soft_wrap=False)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def step(text: str) -> None:
    """One line about what is being done."""
    notes.print(f"[bold]•[/bold] {escape(text)}")


def warn(text: str) -> None:
    """One line about what was left out, changed, or will be slow."""
    notes.print(f"[yellow]![/yellow] {escape(text)}")
