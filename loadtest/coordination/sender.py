"""The part of a run that one process sends and observes."""

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gevent
import gevent.event
from locust.env import Environment

from loadtest.clock.recorder import Recorder
from loadtest.clock.stream import Timeouts, TokenClient, session, settle
from loadtest.coordination.preparation import PreparedRun, prepare_run
from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.offered.dispatcher import Dispatcher
from loadtest.options import RunOptions, from_namespace
from loadtest.trust.health import ClientMonitor
from loadtest.workload.steps import Request, Session, Think

PREPARE = "loadtest_prepare"
"""Leader → senders: make ready; the answer is PREPARED."""
PREPARED = "loadtest_prepared"
GO = "loadtest_go"
"""Leader → senders: the run's time zero is so many seconds from now."""
END = "loadtest_end"
"""Leader → senders: end now, with what there is; what is being prepared is not wanted any more."""
FINISHED = "loadtest_finished"
"""Sender → leader: the last of what was recorded."""

PREPARED_SESSIONS = 5_000
"""Made before the start, over all processes; what comes after is made while the clock runs."""
OPEN_LOOP_SECONDS = 120.0
CLOSED_LOOP_SECONDS = 3.0
"""That making them may take. An open loop's schedule says how many there are; how many a closed one will get through
nobody knows, and its users make their own when they need them, which delays no one else."""
POLL_SECONDS = 0.02
PORTION_SECONDS = 0.05
YIELD_SECONDS = 0.005
"""Prompts are made for so long, then the event loop runs for so long: heartbeats and the web page are answered."""
CONNECTIONS = 50_000
"""More than a process can have open at once: no request ever waits for another's connection."""


class _NotWanted(Exception):
    """The run that is being prepared was stopped, perhaps another started."""


class Sender:
    """Lives as long as the process; a run at a time."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._run: PreparedRun | None = None
        self._reset()

    def _reset(self) -> None:
        self._wanted: PreparedRun | None = None
        """The run that is prepared or goes on, unless it was ended."""
        self.started: gevent.event.Event = gevent.event.Event()
        self.recorder = Recorder()
        self.open_loop = False
        self._zero = math.inf
        self._next_session = 0
        self._sessions_left = math.inf
        self._open_sessions = 0
        self._written: set[int] = set()
        self._share = (0, 1)
        self._dispatcher: Dispatcher | None = None
        self._conductor: gevent.Greenlet[..., None] | None = None
        self._client: TokenClient | None = None
        self._monitor: ClientMonitor | None = None
        self._finished = True
        self._rate: float | None = None
        self._generation = 0

    def now(self) -> float:
        """Seconds since the run's start; negative before it."""
        return time.perf_counter() - self._zero

    # Messages

    def prepare(self, data: Mapping[str, Any]) -> None:
        """Makes the run ready and says so, or says why not."""
        self._stop_greenlets()
        self._reset()
        gc.unfreeze()  # what an earlier run left
        index, count = data["index"], data["count"]
        problem = ""
        try:
            run = prepare_run(RunOptions.model_validate(data["options"]), salt=data["salt"])
            self._run = self._wanted = run
            self._share = (index, count)
            self.open_loop = run.options.open_loop
            self._rate = run.options.rate
            self.recorder = run.recorder()
            if run.options.requests is not None:
                self._sessions_left = len(range(index, run.options.requests, count))
            self._next_session = index
            self._client = self._token_client(run)
            self._prepare_sessions(run)
        except LoadTestError as error:
            problem = str(error)
        except _NotWanted:
            return
        self._send(PREPARED, {"index": index, "salt": data["salt"], "problem": problem})

    def _token_client(self, run: PreparedRun) -> TokenClient:
        """One for all users of this process, so that connections are used again."""
        http = session(
            run.url,
            request_event=self._environment.events.request,
            concurrency=CONNECTIONS,
            insecure=True,  # the gateway's certificate is often of its user's making, and not what is measured
        )
        timeouts = Timeouts(
            total_seconds=run.options.timeout_seconds, between_chunks_seconds=run.options.timeout_seconds
        )
        return TokenClient(http, now=self.now, api_key=run.api_key, timeouts=timeouts)

    def _prepare_sessions(self, run: PreparedRun) -> None:
        index, count = self._share
        if self.open_loop:
            arrivals = list(enumerate(run.arrivals))[index::count]
            self._dispatcher = Dispatcher(
                arrivals=arrivals, perform=self._perform_arrival, due=self.recorder.due, now=self.now
            )
            run.workload.check(arrival for _, arrival in arrivals)
            self._write(run, arrivals[: PREPARED_SESSIONS // count], OPEN_LOOP_SECONDS)
        else:
            wanted = run.options.requests or PREPARED_SESSIONS
            self._write(run, range(index, min(wanted, PREPARED_SESSIONS), count), CLOSED_LOOP_SECONDS)

    def _write(self, run: PreparedRun, sessions: Sequence[int | tuple[int, Arrival]], seconds: float) -> None:
        """As many of these as the time allows, in their order; the master's heartbeats are answered in between."""
        until = time.perf_counter() + seconds
        begin, portion = 0, 1
        while begin < len(sessions):
            some, began = sessions[begin : begin + portion], time.perf_counter()
            run.workload.prepare(some)
            self._written.update(one if isinstance(one, int) else one[0] for one in some)
            begin += len(some)
            portion = max(round(len(some) * PORTION_SECONDS / (time.perf_counter() - began)), 1)
            gevent.sleep(YIELD_SECONDS)
            if self._wanted is not run:
                raise _NotWanted
            if time.perf_counter() > until:
                return

    def go(self, data: Mapping[str, Any]) -> None:
        """Time zero is near."""
        if self._run is None:
            return
        settle()
        self._zero = time.perf_counter() + data["in_seconds"]
        self._finished = False
        self._monitor = ClientMonitor()
        self._monitor.start()
        self._conductor = gevent.spawn(self._conduct, self._run)

    def end(self) -> None:
        """Ends the run now; requests in flight are not observed to their end."""
        self._wanted = None
        self._finish(interrupted=True)

    # The run

    def _conduct(self, run: PreparedRun) -> None:
        gevent.sleep(max(-self.now(), 0.0))
        self.started.set()
        if self._dispatcher:
            dispatching = gevent.spawn(self._dispatcher.run)
            # To the last of the schedule, also past the window's end: what a stalled process could not start in time
            # was due nevertheless, and left out it would be missing without a trace.
            while not dispatching.ready():
                dispatching.join(timeout=0.5)
                if self.now() < run.window_end:
                    self._follow_changed_rate(run)
        elif run.options.requests is None:
            gevent.sleep(max(run.window_end - self.now(), 0.0))
        else:
            while self._sessions_left > 0:
                gevent.sleep(POLL_SECONDS)
        self._drain(run)
        self._finish(interrupted=False)

    def _drain(self, run: PreparedRun) -> None:
        """Every request ends by itself within its time limit."""
        until = time.perf_counter() + run.options.timeout_seconds + 5
        while self._open_sessions and time.perf_counter() < until:
            gevent.sleep(POLL_SECONDS)

    def _finish(self, *, interrupted: bool) -> None:
        if self._finished:
            return
        self._finished = True
        health = self._monitor.stop() if self._monitor else {}
        notes = self._run.workload.notes if self._run else ()
        data = {
            "index": self._share[0],
            "interrupted": interrupted,
            "ended_at": self.now(),
            "recorded": self.recorder.take().model_dump(mode="json"),
            "health": health,
            "notes": list(notes),
        }
        self._send(FINISHED, data)
        if interrupted:
            self._stop_greenlets()

    def _stop_greenlets(self) -> None:
        if self._dispatcher:
            self._dispatcher.end()
            self._dispatcher.sessions.kill(block=False)
        if self._conductor and self._conductor is not gevent.getcurrent():
            self._conductor.kill(block=False)

    def _follow_changed_rate(self, run: PreparedRun) -> None:
        """A rate that was edited in the web UI while the run goes on."""
        if self._environment.parsed_options is None or run.options.rate is None or self._dispatcher is None:
            return
        try:
            edited = from_namespace(self._environment.parsed_options).rate
        except LoadTestError:
            return
        if edited is None or edited == self._rate:
            return
        self._rate = edited
        self._generation += 1
        begin = self.now()
        index, count = self._share
        changed = run.options.model_copy(update={"rate": edited, "seed": run.options.seed + self._generation})
        later = replace(run, options=changed).arrivals
        shifted = [Arrival(at=begin + one.at) for one in later if begin + one.at < run.window_end]
        offset = self._generation * 10_000_000  # sessions of their own: a salt is never used twice
        self._dispatcher.replace([(offset + number, one) for number, one in enumerate(shifted)][index::count])

    # What users do

    def take_session(self) -> Session | None:
        """Closed loop: the next session of this process; None: no more are to be started."""
        if self._run is None or self._finished or self.now() >= self._run.window_end or self._sessions_left <= 0:
            return None
        index, self._next_session = self._next_session, self._next_session + self._share[1]
        self._sessions_left -= 1
        self._open_sessions += 1
        return self._session(index)

    def _session(self, index: int, arrival: Arrival | None = None) -> Session:
        """One that was not written before the start is written in a thread: the tokenizer lets the event loop run."""
        assert self._run is not None
        workload = self._run.workload
        if index not in self._written:
            gevent.get_hub().threadpool.apply(workload.prepare, ([(index, arrival) if arrival else index],))
        self._written.discard(index)
        return workload.session(index, arrival)

    def perform(self, session: Session, due: float | None = None) -> None:
        """Goes through an opened session; ``due``: when its first request was scheduled and already counted as due."""
        run = self._run
        assert run is not None
        answer: str | None = None
        counted = due is not None
        try:
            step = next(session)
            while True:
                if isinstance(step, Think):
                    due = self.now() + step.seconds
                    if due >= run.window_end:
                        return
                    gevent.sleep(step.seconds)
                    answer = None
                else:
                    if due is None:
                        due = self.now()
                    if due >= run.window_end:
                        return
                    if not counted:
                        self.recorder.due(due)
                    answer = self._send_request(step, due)
                    due, counted = None, False
                step = session.send(answer)
        except StopIteration:
            return
        finally:
            self._open_sessions -= 1

    def _send_request(self, request: Request, due: float) -> str | None:
        assert self._client is not None
        observation, text = self._client.send(request, scheduled_at=due, begin=self.recorder.begin)
        self.recorder.end(observation)
        return text

    def _perform_arrival(self, index: int, arrival: Arrival) -> None:
        assert self._run is not None
        self._open_sessions += 1
        self.perform(self._session(index, arrival), due=arrival.at)

    def take(self) -> dict[str, Any] | None:
        """What was recorded since the last call, and how the process fares; None while nothing runs."""
        if self._finished:
            return None
        return {
            "index": self._share[0],
            "recorded": self.recorder.take().model_dump(mode="json"),
            "health": self._monitor.reading() if self._monitor else {},
        }

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        runner = self._environment.runner
        if runner is not None:
            runner.send_message(kind, data)
