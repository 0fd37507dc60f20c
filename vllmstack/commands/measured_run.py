"""One run in this process: measured, printed, and its outcome as an exit status."""

import sys
from pathlib import Path

from loadtest.errors import EXIT_INVALID
from loadtest.options import RunOptions
from loadtest.results import RUN_FILE, load
from loadtest.run import measure
from vllmstack.commands.run_table import print_run
from vllmstack.console import step
from vllmstack.errors import EXIT_INTERRUPTED


def measure_and_print(options: RunOptions) -> None:
    """Ends the program with 2 if the run is invalid; an interrupted one shows what it measured until then.

    Raises:
        LoadTestError: the run could not start, or left nothing behind.
        KeyboardInterrupt: before anything was measured.
    """
    folder = Path(options.result or "")
    try:
        result = measure(options, echo=step)
    except KeyboardInterrupt:
        if not (folder / RUN_FILE).is_file():
            raise
        print_run(load(folder), folder)
        sys.exit(EXIT_INTERRUPTED)
    print_run(result, folder)
    if not result.valid:
        sys.exit(EXIT_INVALID)
