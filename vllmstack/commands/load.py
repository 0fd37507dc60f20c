"""`vllmstack load`: the load test, in its web UI or as one run without it; with a bundle, that is loaded instead."""

from pathlib import Path
from typing import Any

import click

from loadtest.options import RunOptions, checked, parse_parameters
from vllmstack.commands.measurement import measure_in_container, measures_here, new_results_folder, surroundings
from vllmstack.console import notes, out, step, warn
from vllmstack.host.compose import Compose
from vllmstack.host.containers import connect
from vllmstack.host.loadtest_web import PUBLISHED, close_web_ui, is_loopback, open_web_ui, published_at
from vllmstack.host.running import running_deployment
from vllmstack.project import find_project

FIELDS = {"duration": "duration_seconds", "warmup": "warmup_seconds", "timeout": "timeout_seconds"}
"""Fields of RunOptions that are called otherwise than their option."""
FILES = ("trace", "tokenizer", "result")


def _file(_: click.Context, __: click.Parameter, value: str | None) -> Path | None:
    return Path(value) if value else None


# What is left out is None (of a make variable that is left empty, too) and decided by the scenario or by RunOptions.
@click.command("load")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--scenario", metavar="NAME|FILE", help="What is asked: one of loadtest/scenarios/ or a file.  [chat]")
@click.option("--model", metavar="NAME", help="Name or alias of the model.  [the first]")
@click.option("--concurrency", metavar="N", help="Closed loop: so many users, each waits for its answer.  [1]")
@click.option("--rate", metavar="N", help="Open loop: sessions a second, whatever the server does.")
@click.option("--arrivals", metavar="KIND", help="poisson, gamma, constant, ramp, steps or trace.  [poisson]")
@click.option("--burstiness", metavar="N", help="gamma: 1 is Poisson, smaller comes in bursts.")
@click.option("--until-rate", metavar="N", help="ramp: sessions a second at its end.")
@click.option("--steps", metavar="LIST", help="steps: rate and seconds, as in 2:30,4:30.")
@click.option("--trace", metavar="FILE", callback=_file, help="trace: arrival times and lengths.")
@click.option("--trace-speed", metavar="N", help="trace: 2 replays it in half the time.")
@click.option("--duration", metavar="SECONDS", help="How long it is measured.  [the scenario's]")
@click.option("--warmup", metavar="SECONDS", help="How long before that it is not.  [0]")
@click.option("--requests", metavar="N", help="Ends after so many, instead of after the duration.")
@click.option("--parameters", metavar="NAME=VALUE …", multiple=True, help="Of the scenario: prompt_tokens=512.")
@click.option("--seed", metavar="N", help="The same seed asks the same.  [0]")
@click.option("--timeout", metavar="SECONDS", help="Of one request.  [600]")
@click.option("--tokenizer", metavar="DIRECTORY", callback=_file, help="Instead of the model's own.")
@click.option("--url", metavar="URL", help="Another server than the stack's gateway.")
@click.option("--result", metavar="DIRECTORY", callback=_file, help="Below results/.  [TIME-SCENARIO]")
@click.option("--no-calibration", is_flag=True, help="Do not measure the client first.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="That send, in one container.  [1]")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Containers that send, instead.")
@click.option("--here", is_flag=True, help="In this process' Python, not in the container.")
@click.option("--publish", metavar="ADDRESS:PORT", envvar="VLLMSTACK_LOADTEST_PUBLISH", help=f"Web UI.  [{PUBLISHED}]")
@click.option("--publish-master", metavar="ADDRESS:PORT", help="Web UI: for workers on other hosts.")
@click.option("--stop", is_flag=True, help="End the web UI.")
def command(
    bundle: Path | None,
    *,
    processes: int,
    workers: int,
    here: bool,
    publish: str | None,
    publish_master: str | None,
    stop: bool,
    **given: Any,
) -> None:
    """Send load to the running stack, or load a bundle and start it.

    Without options of a run it opens the web UI; with --scenario, --rate and the
    like it measures once, prints a table and keeps all of it below results/.

    With BUNDLE, a file that `vllmstack bundle` wrote, no load is sent: its images
    and weights are brought onto this host, and its deployment is started.
    """
    asked = {name: value for name, value in given.items() if value}
    if bundle:
        if asked or here or stop or publish_master or processes != 1 or workers:
            raise click.UsageError(f"{bundle} is a bundle to be loaded: it goes with no option of a load test")
        # Not where the load test runs in its container.
        from vllmstack.commands.bundle_loading import load_bundle

        load_bundle(bundle)
    elif stop:
        _stop()
    elif asked or here:
        _measure(asked, processes=processes, workers=workers, here=here)
    else:
        _open(publish or PUBLISHED, processes=processes, workers=workers, publish_master=publish_master)


def _stop() -> None:
    project = find_project()
    closed = close_web_ui(Compose(project, running_deployment(project)), connect())
    step("the load test's web UI is closed; results stay in results/" if closed else "there was no web UI to close")


def _open(publish: str, *, processes: int, workers: int, publish_master: str | None) -> None:
    project = find_project()
    if not is_loopback(published_at(publish)[0]):
        warn(f"the web UI asks for no password, and whoever reaches {publish} may send load")
    url = open_web_ui(project, publish=publish, processes=processes, workers=workers, publish_master=publish_master)
    out.print(f"Load test  {url}", soft_wrap=True, markup=False)
    notes.print("`vllmstack load --stop` or `vllmstack down` ends it; runs are kept in results/")
    if publish_master:
        address, port = published_at(publish_master)
        notes.print(
            f"On another host, in a clone: python -m locust -f loadtest/locustfile.py --worker --master-host {address} "
            f"--master-port {port}",
            markup=False,
        )


def _measure(asked: dict[str, Any], *, processes: int, workers: int, here: bool) -> None:
    # Also where the container will do it again: a mistake costs no start.
    options = _options(asked, processes=processes, workers=workers)
    if not measures_here(here):
        words: list[str | Path] = ["load", "--here", "--processes", str(processes), "--workers", str(workers)]
        for name, value in asked.items():
            words += [word for one in _values(name, value) for word in ("--" + name.replace("_", "-"), *one)]
        measure_in_container(words, workers=workers)
    # Only a measurement needs Locust and numpy, which this host's Python may not have.
    from vllmstack.commands.measured_run import measure_and_print

    folder = asked.get("result") or new_results_folder(Path(options.scenario).stem)
    # A server that was asked for goes before the stack's own.
    found = {name: value for name, value in surroundings().items() if name not in asked}
    measure_and_print(options.model_copy(update={"result": str(folder), **found}))


def _options(asked: dict[str, Any], *, processes: int, workers: int) -> RunOptions:
    values: dict[str, Any] = {FIELDS.get(name, name): value for name, value in asked.items()}
    values["calibrate"] = not values.pop("no_calibration", False)
    values["parameters"] = parse_parameters(" ".join(values.get("parameters", ())))
    values |= {name: str(values[name]) for name in FILES if name in values}
    return checked(values | {"processes": processes, "workers": workers})


def _values(name: str, value: Any) -> list[list[str | Path]]:
    """What follows the option, as often as it is given; a Path is a file of this host."""
    if value is True:
        return [[]]
    if isinstance(value, tuple):
        return [[one] for one in value]
    if name == "scenario" and (Path(value).suffix or len(Path(value).parts) > 1):
        return [[Path(value)]]
    return [[value]]
