"""What Locust runs: `locust -f loadtest/locustfile.py`, headless, with its web UI, or as a worker."""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtest.arguments import add_arguments
from loadtest.coordination.leader import Leader
from loadtest.coordination.preparation import SCENARIOS, check_server, prepare_run
from loadtest.coordination.sender import END, FINISHED, GO, PREPARE, PREPARED, Sender
from loadtest.errors import LoadTestError
from loadtest.exporter import serve
from loadtest.stack import load_stack
from loadtest.web import install
from loadtest.workload.scenario import scenario_names

_senders: dict[int, Sender] = {}
"""By the identity of Locust's environment: users find their process's sender."""


@events.init_command_line_parser.add_listener
def _arguments(parser: LocustArgumentParser) -> None:
    own = [word for flag, word in itertools.pairwise(sys.argv) if flag == "--scenario"]  # a file, maybe
    add_arguments(parser, scenarios=list(dict.fromkeys([*scenario_names(SCENARIOS), *own])))


@events.init.add_listener
def _wire(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    if runner is None:
        return
    _take_over_interruption(runner)
    sender = None
    if not isinstance(runner, MasterRunner):
        sender = _senders[id(environment)] = Sender(environment)
        _wire_sender(environment, sender)
    if not isinstance(runner, WorkerRunner):
        leader = Leader(environment, local_take=sender.take if sender else None)
        _wire_leader(environment, leader)
        _serve(environment, leader)


def _take_over_interruption(runner: Runner) -> None:
    """Python raises Ctrl-C in whichever greenlet runs, in the middle of a request: take it where Locust takes SIGTERM.

    Workers leave it to their master, which asks them for what they measured first.
    """
    if isinstance(runner, WorkerRunner):
        gevent.signal_handler(signal.SIGINT, lambda: None)
    else:
        gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)


def _wire_sender(environment: Environment, sender: Sender) -> None:
    runner = environment.runner
    assert runner is not None
    # Preparing takes seconds: beside the loop that answers the master's heartbeats.
    runner.register_message(PREPARE, lambda environment, msg: sender.prepare(msg.data), concurrent=True)
    runner.register_message(GO, lambda environment, msg: sender.go(msg.data))
    runner.register_message(END, lambda environment, msg: sender.end())
    environment.events.test_stopping.add_listener(lambda **_: sender.end())
    if isinstance(runner, WorkerRunner):

        def add_report(data: dict[str, Any], **_: Any) -> None:
            report = sender.take()
            if report is not None:
                data["loadtest"] = report

        environment.events.report_to_master.add_listener(add_report)


def _wire_leader(environment: Environment, leader: Leader) -> None:
    runner = environment.runner
    assert runner is not None
    runner.register_message(PREPARED, lambda environment, msg: leader.prepared(msg.data))
    runner.register_message(FINISHED, lambda environment, msg: leader.finished(msg.data))
    environment.events.test_start.add_listener(lambda **_: leader.prepare())
    environment.events.spawning_complete.add_listener(lambda **_: leader.go())
    environment.events.test_stopping.add_listener(lambda **_: leader.interrupt())
    environment.events.quitting.add_listener(lambda **_: _say_goodbye(leader))

    def merge(data: dict[str, Any], **_: Any) -> None:
        if "loadtest" in data:
            leader.report(data["loadtest"])

    environment.events.worker_report.add_listener(merge)


def _say_goodbye(leader: Leader) -> None:
    leader.interrupt()
    if leader.problem is not None:
        print(f"vllmstack: {leader.problem}", file=sys.stderr)


def _serve(environment: Environment, leader: Leader) -> None:
    options = environment.parsed_options
    assert options is not None
    if options.metrics_port:
        serve(options.metrics_port, leader.current)
    if environment.web_ui is not None:
        stack = None
        if options.stack:
            try:
                stack = load_stack(Path(options.stack))
            except LoadTestError as error:
                sys.exit(f"vllmstack: {error}")
            environment.host = environment.host or stack.url
        install(
            environment,
            source=leader.current,
            stack=stack,
            scenarios_folder=SCENARIOS,
            results=lambda: leader.folder,
            problem=lambda: leader.problem,
            check=lambda options: check_server(prepare_run(options)),
            changed=leader.edited,
        )


class ScenarioUser(User):
    """One user of the closed loop: a session after the other. In the open loop users wait: arrivals send."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._sender = _senders[id(environment)]

    @task
    def sessions(self) -> None:
        sender = self._sender
        sender.started.wait()
        if sender.open_loop:
            gevent.sleep(60)
            return
        session = sender.take_session()
        if session is None:
            gevent.sleep(0.2)  # the run drains; then Locust ends this user
            return
        sender.perform(session)
