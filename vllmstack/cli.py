"""The command line: finds the commands, and turns every outcome into an exit status.

0    done
1    expected failure: every problem with file, place, fact and hint; no traceback
2    the command line itself is wrong (click's own)
3    a bug: its traceback goes to a file, and one line says which
130  Ctrl-C
"""

import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable

import click

from vllmstack import __version__
from vllmstack.errors import EXIT_BUG, EXIT_FAILED, EXIT_INTERRUPTED, VllmstackError

COMMANDS = (
    *("up", "apply", "restart", "down", "status", "top", "logs", "chat"),
    *("keys", "models", "batch", "bundle"),
    *("load", "check", "capacity", "report"),
    *("plan", "validate", "render", "doctor"),
)


class Commands(click.Group):
    """Imports a command's module only when that command runs: `--help` needs neither Docker nor pydantic."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"vllmstack.commands.{cmd_name}")
        command: click.Command = module.command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="vllmstack")
def group() -> None:
    """Serve large language models with vLLM on Docker Compose."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status (entry point of the console script)."""
    return guarded(lambda: group.main(args=arguments, prog_name="vllmstack", standalone_mode=False))


def guarded(action: Callable[[], object]) -> int:
    """Runs the action inside the error boundary; the exit status of what happened."""
    try:
        action()
    except VllmstackError as error:
        print(f"vllmstack: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as request:  # a command that has said all it has to say
        return EXIT_FAILED if isinstance(request.code, str) else int(request.code or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("\nvllmstack: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        # The load test's container names a folder that outlives it.
        folder = os.environ.get("VLLMSTACK_LOGS")
        with tempfile.NamedTemporaryFile("w", prefix="vllmstack-", suffix=".log", dir=folder, delete=False) as log:
            traceback.print_exc(file=log)
        file = os.path.relpath(log.name) if folder else log.name
        print(
            f"vllmstack: a bug: {type(error).__name__}: {error}\n  hint: please report it with {file}",
            file=sys.stderr,
        )
        return EXIT_BUG
    return 0


if __name__ == "__main__":
    sys.exit(main())
