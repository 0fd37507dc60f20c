"""The part of a run that plans, waits for the senders, and judges: on Locust's master, or in its only process."""

import csv
import datetime
import math
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gevent
import gevent.event
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_SPAWNING, MasterRunner

from loadtest.clock.recorder import Recorded
from loadtest.coordination.assembly import RunState, assemble
from loadtest.coordination.preparation import PreparedRun, check_server, prepare_run, with_limits
from loadtest.coordination.sender import END, GO, PREPARE
from loadtest.errors import LoadTestError
from loadtest.options import RunOptions, from_namespace
from loadtest.results import ROW_FIELDS, ROWS_FILE, Calibration, Flag, RunResult, save
from loadtest.trust.calibration import calibrate
from loadtest.trust.engines import EngineWatch
from loadtest.trust.health import judge_client, merge_readings
from loadtest.trust.physics import check_physics
from loadtest.trust.reconciliation import reconcile
from vllmstack.errors import Problem

PREPARATION_SECONDS = 600.0
FINAL_REPORT_SECONDS = 10.0
"""How long the last reports of interrupted senders are waited for."""
LEAD_SECONDS = 0.3
"""Between the message to go and time zero: longer than a message takes to any sender."""


class Leader:
    """Lives as long as the process; a run at a time."""

    def __init__(
        self, environment: Environment, *, local_take: Callable[[], dict[str, Any] | None] | None = None
    ) -> None:
        self._environment = environment
        self._local_take = local_take
        self.state: RunState | None = None
        self.folder: Path | None = None
        self.result: RunResult | None = None
        self.problem: LoadTestError | None = None
        self._calibration: Calibration | None = None
        self._engines: EngineWatch | None = None
        self._reset()

    def _reset(self) -> None:
        if self._engines is not None:
            self._engines.stop()  # a run that was prepared and never started
        self._prepared: dict[int, str] = {}
        self._finished: dict[int, Mapping[str, Any]] = {}
        self._health: dict[int, Mapping[str, Any]] = {}
        self._edits: list[Flag] = []
        self._expected = 1
        self._salt = secrets.token_hex(8)
        self._ready = False
        self._started = False
        self._done = False
        self._zero = math.inf
        self._engines = None
        self._all_prepared: gevent.event.Event = gevent.event.Event()
        self._all_finished: gevent.event.Event = gevent.event.Event()

    # Before the run

    def prepare(self) -> None:
        """Checks everything, makes all senders ready; what is wrong ends up in ``problem`` and ends the run."""
        self._reset()
        self.state = self.result = self.problem = None
        if self._environment.runner is not None:
            # Locust calls itself ready until users come: its page would go back to the form after two seconds, and a
            # second start begin beside the first.
            self._environment.runner.update_state(STATE_SPAWNING)
        try:
            assert self._environment.parsed_options is not None
            run = prepare_run(with_limits(from_namespace(self._environment.parsed_options)))
            check_server(run)
            if run.options.calibrate and self._calibration is None:
                self._calibration = calibrate()
            self._prepare_senders(run)
        except LoadTestError as error:
            self._refuse(error)
            return
        started_at = datetime.datetime.now(datetime.UTC)
        self.folder = self._new_folder(run.options, started_at)
        self.state = RunState(
            run=run,
            id=self.folder.name if self.folder else started_at.strftime("%Y%m%d-%H%M%S"),
            started_at=started_at.isoformat(timespec="seconds"),
            recorder=run.recorder(),
            calibration=self._calibration,
        )
        self._engines = EngineWatch(run.stack)
        self._engines.start()
        self._ready = True

    def _prepare_senders(self, run: PreparedRun) -> None:
        runner = self._environment.runner
        message = {"options": run.options.model_dump(mode="json"), "salt": self._salt}
        if isinstance(runner, MasterRunner):
            workers = sorted(client.id for client in runner.clients.values() if client.state != STATE_MISSING)
            self._expected = len(workers)
            for index, worker in enumerate(workers):
                runner.send_message(PREPARE, {**message, "index": index, "count": len(workers)}, worker)
        elif runner is not None:
            runner.send_message(PREPARE, {**message, "index": 0, "count": 1})
        if not self._all_prepared.wait(timeout=PREPARATION_SECONDS):
            missing = self._expected - len(self._prepared)
            fact = f"{missing} of {self._expected} load processes did not get ready"
            raise LoadTestError(Problem(fact=fact, hint="look at their logs: `docker compose logs loadtest-worker`"))
        problems = sorted({problem for problem in self._prepared.values() if problem})
        if problems:
            raise LoadTestError([Problem(fact=problem, hint="see above") for problem in problems])

    def prepared(self, data: Mapping[str, Any]) -> None:
        """A sender is ready, or has a problem."""
        if data["salt"] != self._salt:
            return  # for a run that was stopped before it began
        self._prepared[data["index"]] = data["problem"]
        if len(self._prepared) >= self._expected:
            self._all_prepared.set()

    def go(self) -> None:
        """All users are there: the clock starts. Further users, spawned by an edit, join the run that goes on."""
        runner = self._environment.runner
        if not self._ready or self._started or runner is None:
            return
        self._started = True
        self._zero = time.perf_counter() + LEAD_SECONDS
        runner.send_message(GO, {"in_seconds": LEAD_SECONDS})

    def _refuse(self, error: LoadTestError) -> None:
        self.problem = error
        self._done = True
        gevent.spawn(self._leave)

    def _new_folder(self, options: RunOptions, started_at: datetime.datetime) -> Path | None:
        if options.result is None:
            return None
        if self._environment.web_ui is None:
            return Path(options.result)
        return Path(options.result) / f"{started_at:%Y%m%d-%H%M%S}-{options.scenario}"

    # During the run

    def report(self, data: Mapping[str, Any]) -> None:
        """What a sender recorded since its last report, and how it fares."""
        if self.state is None:
            return
        self.state.recorder.merge(Recorded.model_validate(data["recorded"]))
        if data["health"]:
            self._health[data["index"]] = data["health"]
            self.state.health = merge_readings(list(self._health.values()), chunks=self.state.recorder.chunks)

    def edited(self, change: str) -> None:
        """Somebody changed the load while the run goes on: it is no longer the load that the result names."""
        hint = "its numbers are of several loads: start anew to judge one"
        self._edits.append(Flag(kind="offered", severity="warning", fact=f"edited during the run: {change}", hint=hint))
        if self.state is not None:
            self.state.flags = [*self.state.flags, self._edits[-1]]

    def current(self) -> RunResult | None:
        """The run as it is now, or the last one; None before the first."""
        if self.result is not None or self.state is None:
            return self.result
        if self._local_take is not None:
            report = self._local_take()
            if report is not None:
                self.report(report)
        self.state.elapsed_seconds = max(time.perf_counter() - self._zero, 0.0)
        return assemble(self.state)

    # The end

    def finished(self, data: Mapping[str, Any]) -> None:
        """A sender's last report."""
        if self.state is None or data["index"] in self._finished:
            return
        self._finished[data["index"]] = data
        self.report(data)
        if len(self._finished) >= self._expected:
            self._all_finished.set()
            if not self._done and not any(one["interrupted"] for one in self._finished.values()):
                gevent.spawn(self._conclude_and_leave)

    def interrupt(self) -> None:
        """Ends the run before its time (Ctrl-C, the web UI's stop) and keeps what was measured."""
        if self._done:
            return
        runner = self._environment.runner
        if runner is not None:
            runner.send_message(END, None)
        if not self._started:
            return
        self._all_finished.wait(timeout=FINAL_REPORT_SECONDS)
        self._conclude()

    def _conclude_and_leave(self) -> None:
        self._conclude()
        self._leave()

    def _conclude(self) -> None:
        if self._done or self.state is None:
            return
        self._done = True
        state = self.state
        state.elapsed_seconds = max((one["ended_at"] for one in self._finished.values()), default=0.0)
        state.interrupted = any(one["interrupted"] for one in self._finished.values())
        flags = list(self._edits)
        if self._engines:
            state.engines, said = self._engines.stop()
            self._engines = None
            flags += said
        flags += self._lost_senders()
        notes = dict.fromkeys(note for one in self._finished.values() for note in one["notes"])
        flags += [Flag(kind="workload", severity="note", fact=note, hint="nothing to do") for note in notes]
        result = assemble(state)
        flags += judge_client(result.client)
        flags += check_physics(result, expects_prefix_hits=state.run.expects_prefix_hits)
        if result.engines:
            flags += reconcile(result)
        self.result = result.model_copy(update={"flags": flags})
        self._keep(self.result)

    def _lost_senders(self) -> list[Flag]:
        lost = self._expected - len(self._finished)
        if lost <= 0:
            return []
        fact = f"{lost} of {self._expected} load processes never reported: their requests are not counted"
        return [Flag(kind="client", severity="invalid", fact=fact, hint="look at the workers' logs and memory")]

    def _keep(self, result: RunResult) -> None:
        if self.folder is None or self.state is None:
            return
        save(result, self.folder)
        with (self.folder / ROWS_FILE).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(ROW_FIELDS)
            writer.writerows(self.state.recorder.rows)

    def _leave(self) -> None:
        """Headless: the process ends, 2 if the run is invalid. In the web UI: the users stop."""
        runner = self._environment.runner
        if self._environment.web_ui is not None:
            if runner is not None:
                runner.stop()
            return
        valid = self.problem is None and self.result is not None and self.result.valid
        self._environment.process_exit_code = 0 if valid else 2
        if runner is not None:
            runner.quit()
