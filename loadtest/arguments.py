"""The load test's own arguments of Locust's command line; those of a run are fields of its start form too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadtest.options import ARRIVALS, DEFAULT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser

DEFAULT_SCENARIO = "chat"
_RUN = (
    ("--model", "NAME", "", "name or alias in the deployment; empty: its first"),
    ("--rate", "NUMBER", "", "sessions a second, whatever the server does; empty or 0: closed loop, by users"),
    ("--burstiness", "NUMBER", "", "1 is Poisson; smaller comes in bursts, larger evenly (gamma)"),
    ("--until-rate", "NUMBER", "", "sessions a second at the end (ramp)"),
    ("--steps", "LIST", "", "sessions a second and for how many seconds, as in 1x30,2x30 (steps)"),
    ("--trace", "FILE", "", "arrival times and lengths to replay (trace)"),
    ("--trace-speed", "NUMBER", "1", "2 replays it in half the time (trace)"),
    ("--duration", "SECONDS", "", "seconds that are measured; empty: as long as the scenario says"),
    ("--warmup", "SECONDS", "", "seconds before, that are not measured"),
    ("--requests", "NUMBER", "", "sessions after which it ends, instead of a duration"),
    ("--parameters", "NAME=VALUE …", "", "of the scenario, as in prompt_tokens=512 completion_tokens=64"),
    ("--seed", "NUMBER", "0", "the same seed asks the same"),
    ("--timeout", "SECONDS", f"{DEFAULT_TIMEOUT_SECONDS:g}", "seconds that one request may take"),
)
_MACHINE = (
    ("--stack", "FILE", "stack.json, as `vllmstack up` writes it"),
    ("--result", "DIRECTORY", "gets run.json and requests.csv"),
    ("--api-key-file", "FILE", "holds the key that the gateway asks for"),
    ("--tokenizer", "DIRECTORY", "of the model, instead of what stack.json names"),
    ("--limits", "JSON", 'latency limits of goodput, seconds, as in {"ttft": 0.5, "tpot": 0.05}'),
    ("--git", "COMMIT", "of the clone, for the result"),
)
FORM_FIELDS = ("scenario", "arrivals", *(flag.removeprefix("--").replace("-", "_") for flag, *_ in _RUN))
"""What the start form has of ours, as Locust's parsed options name it."""


def add_arguments(parser: "LocustArgumentParser", *, scenarios: Sequence[str]) -> None:
    """For a listener of ``init_command_line_parser``; ``loadtest.options.from_namespace`` reads what comes of it.

    All that a form can send is a text, and empty if left out: Locust turns what was posted into the type of the value
    before, and an emptied number would end in its error 500.
    """
    scenario = DEFAULT_SCENARIO if DEFAULT_SCENARIO in scenarios else scenarios[0]
    parser.add_argument("--scenario", choices=list(scenarios), default=scenario, help="what is asked")
    parser.add_argument("--arrivals", choices=list(ARRIVALS), default=ARRIVALS[0], help="how sessions come, by rate")
    for flag, metavar, default, text in _RUN:
        parser.add_argument(flag, metavar=metavar, default=default, help=text)
    # The form shows no arguments of a group: these belong to the machine and not to a run.
    group = parser.add_argument_group("Load test: where it runs")
    for flag, metavar, text in _MACHINE:
        group.add_argument(flag, metavar=metavar, help=text)
    group.add_argument("--metrics-port", metavar="PORT", type=int, help="serves the load test's own Prometheus metrics")
    group.add_argument("--no-calibration", action="store_true", help="do not measure the client first")
