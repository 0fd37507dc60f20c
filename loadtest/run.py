"""One measurement: Locust in a process of its own, and the result that it leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from loadtest.coordination.preparation import check_server, prepare_run
from loadtest.errors import LoadTestError
from loadtest.options import RunOptions
from loadtest.results import RUN_FILE, RunResult
from loadtest.results import load as load_result
from vllmstack.errors import Problem
from vllmstack.host.loadtest_container import is_inside

LOCUSTFILE = Path(__file__).parent / "locustfile.py"
LOG = "locust.log"
METRICS_PORT = 9464
"""Where Prometheus asks a run in the load test's container (prometheus.yml)."""
GRACE_SECONDS = 30.0
"""What Locust gets to keep partial results after Ctrl-C."""


def measure(options: RunOptions, *, echo: Callable[[str], None] = lambda _: None) -> RunResult:
    """Runs to the end; the result, valid or not, lies in ``options.result`` too.

    Raises:
        LoadTestError: the run could not start (every reason), or left nothing behind.
        KeyboardInterrupt: after partial results were kept.
    """
    if options.result is None:
        raise ValueError("a measurement needs a folder")
    run = prepare_run(options)
    check_server(run)
    folder = Path(options.result)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).unlink(missing_ok=True)
    echo(f"{run.scenario.name} on {run.model.name}: {run.options.load()}")
    status = _locust(run.options, folder / LOG)
    if not (folder / RUN_FILE).is_file():
        said = "\n".join((folder / LOG).read_text(errors="replace").strip().splitlines()[-8:])
        fact = f"the run ended with status {status} and no result; Locust said:\n{said}"
        raise LoadTestError(Problem(fact=fact, hint=f"all of it is in {folder / LOG}"))
    return load_result(folder)


def _locust(options: RunOptions, log: Path) -> int:
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--skip-log-setup",
        *options.arguments(),
    ]  # fmt: skip
    if is_inside():
        command.append(f"--metrics-port={METRICS_PORT}")
    if options.workers:
        command += ["--master", "--expect-workers", str(options.workers)]
    elif options.processes > 1:
        command += ["--processes", str(options.processes), "--expect-workers", str(options.processes)]
    environment = {**os.environ, "LOCUST_CONFIG_FILE": os.devnull}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            return process.wait()
        except BaseException:
            # A session of its own: Ctrl-C reaches Locust once, from here, and it keeps what it has.
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
