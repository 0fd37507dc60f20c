"""`vllmstack load`: its web UI, one run in the container, one run here."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.options import RunOptions
from loadtest.results import Flag, RunResult, save
from tests.unit.conftest import Clone, Outcome, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker
from tests.unit.loadtest.runs import make_run
from vllmstack.errors import HostError, Problem

Run = Callable[..., Outcome]


class Container:
    """What the container would have been asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str | Path], int]] = []
        self.status: int | Exception = 0

    def run(self, arguments: Sequence[str | Path], *, workers: int) -> int:
        self.asked.append((list(arguments), workers))
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


@pytest.fixture
def container(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Container:
    made = Container()
    monkeypatch.delenv("VLLMSTACK_IN_CONTAINER", raising=False)
    monkeypatch.setattr("vllmstack.commands.measurement.run_in_container", made.run)
    return made


class Here:
    """What would have been measured in this process."""

    def __init__(self) -> None:
        self.options: RunOptions | None = None
        self.result = make_run(concurrency=4)
        self.fails_with: BaseException | None = None

    def measure(self, options: RunOptions, *, echo: Callable[[str], None]) -> RunResult:
        self.options = options
        echo("chat on smoke: concurrency 4")
        assert options.result
        if self.fails_with:
            raise self.fails_with
        save(self.result, Path(options.result))
        return self.result


@pytest.fixture
def here(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Here:
    made = Here()
    clone.is_up()
    monkeypatch.delenv("VLLMSTACK_IN_CONTAINER", raising=False)
    monkeypatch.setattr("vllmstack.commands.measured_run.measure", made.measure)
    monkeypatch.setattr("vllmstack.commands.measurement.has_loadtest_extra", lambda: True)
    monkeypatch.setattr("vllmstack.commands.measurement.commit", lambda _: "0123456789ab")
    monkeypatch.setattr("vllmstack.commands.measurement.write_host_stack", lambda *given: given[-1])
    return made


class WebUi:
    """What would have been opened."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] | None = None

    def open(self, _: object, **asked: Any) -> str:
        self.asked = asked
        return "http://127.0.0.1:8089/"


@pytest.fixture
def web_ui(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> WebUi:
    made = WebUi()
    monkeypatch.delenv("VLLMSTACK_LOADTEST_PUBLISH", raising=False)
    monkeypatch.setattr("vllmstack.commands.load.open_web_ui", made.open)
    return made


def test_without_options_it_opens_the_web_ui_and_prints_its_address(vllmstack: Run, web_ui: WebUi) -> None:
    done = vllmstack("load")

    assert done.status == 0
    assert done.out == "Load test  http://127.0.0.1:8089/\n"
    assert done.err == "`vllmstack load --stop` or `vllmstack down` ends it; runs are kept in results/\n"
    assert web_ui.asked == {"publish": "127.0.0.1:8089", "processes": 1, "workers": 0, "publish_master": None}


def test_the_web_ui_is_given_senders_and_addresses(vllmstack: Run, web_ui: WebUi) -> None:
    done = vllmstack("load", "--workers", "3", "--publish", "10.1.2.3:80", "--publish-master", "10.1.2.3:5557")

    assert web_ui.asked == {
        "publish": "10.1.2.3:80",
        "processes": 1,
        "workers": 3,
        "publish_master": "10.1.2.3:5557",
    }
    assert "! the web UI asks for no password, and whoever reaches 10.1.2.3:80 may send load\n" in done.err
    assert "locust -f loadtest/locustfile.py --worker --master-host 10.1.2.3 --master-port 5557\n" in done.err


def test_the_environment_may_say_where_the_web_ui_is_published(
    vllmstack: Run, web_ui: WebUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLMSTACK_LOADTEST_PUBLISH", "127.0.0.1:9999")

    vllmstack("load")

    assert web_ui.asked
    assert web_ui.asked["publish"] == "127.0.0.1:9999"


def test_stop_closes_the_web_ui(vllmstack: Run, clone: Clone, daemon: FakeDocker, programs: Programs) -> None:
    clone.is_up()
    daemon.stack = [FakeContainer(service="gateway"), FakeContainer(service="loadtest")]

    done = vllmstack("load", "--stop")

    assert (done.status, done.err) == (0, "• the load test's web UI is closed; results stay in results/\n")
    assert programs.calls("docker")[-1].endswith(" rm --stop --force loadtest")


def test_stop_says_when_there_is_nothing_to_close(vllmstack: Run, clone: Clone, daemon: FakeDocker) -> None:
    clone.is_up()

    assert vllmstack("load", "--stop").err == "• there was no web UI to close\n"


def test_a_run_goes_into_the_container_word_for_word(vllmstack: Run, container: Container) -> None:
    container.status = 2

    done = vllmstack(
        "load", "--scenario", "rag", "--rate", "4", "--duration", "60", "--parameters", "prompt_tokens=512",
        "--parameters", "completion_tokens=64", "--no-calibration", "--processes", "4",
    )  # fmt: skip

    assert done.status == 2
    ((words, workers),) = container.asked
    assert workers == 0
    assert words[:6] == ["load", "--here", "--processes", "4", "--workers", "0"]
    assert words[6:] == [
        "--scenario", "rag", "--rate", "4", "--duration", "60", "--parameters", "prompt_tokens=512",
        "--parameters", "completion_tokens=64", "--no-calibration",
    ]  # fmt: skip


def test_what_names_a_file_is_given_as_one(vllmstack: Run, container: Container) -> None:
    vllmstack(
        "load", "--scenario", "./mine.yaml", "--arrivals", "trace", "--trace", "/t.csv", "--result", "results/a",
        "--tokenizer", "models/smoke",
    )  # fmt: skip

    ((words, _),) = container.asked
    assert [word for word in words if isinstance(word, Path)] == [
        Path("./mine.yaml"),
        Path("/t.csv"),
        Path("results/a"),
        Path("models/smoke"),
    ]


def test_workers_send_for_a_run_in_the_container(vllmstack: Run, container: Container) -> None:
    vllmstack("load", "--rate", "4", "--workers", "2")

    ((words, workers),) = container.asked
    assert workers == 2
    assert words[4:6] == ["--workers", "2"]


def test_every_mistake_is_told_before_a_container_is_started(vllmstack: Run, container: Container) -> None:
    done = vllmstack("load", "--rate", "fast", "--duration", "-1")

    assert done.status == 2
    assert done.err.startswith("vllmstack: --rate: 'fast' is not a number\n  hint: ")
    assert "\n--duration: -1 is too small\n  hint: " in done.err
    assert container.asked == []


def test_a_make_variable_that_is_left_empty_asks_for_nothing(vllmstack: Run, web_ui: WebUi) -> None:
    assert vllmstack("load", "--scenario", "", "--rate", "").status == 0
    assert web_ui.asked is not None


def test_a_stack_that_is_down_is_no_missed_target(vllmstack: Run, container: Container) -> None:
    container.status = HostError(Problem(fact="the stack is not up", hint="run `vllmstack up`"))

    done = vllmstack("load", "--rate", "4")

    assert done.status == 2
    assert done.err == "vllmstack: the stack is not up\n  hint: run `vllmstack up`\n"


def test_here_measures_the_running_stack_from_outside(vllmstack: Run, here: Here, clone: Clone) -> None:
    done = vllmstack("load", "--here", "--concurrency", "4", "--parameters", "prompt_tokens=512")

    assert done.status == 0, done.err
    options = here.options
    assert options
    assert (options.concurrency, options.parameters) == (4, {"prompt_tokens": "512"})
    assert options.stack == str(clone.project.rendered("smoke") / "loadtest" / "stack.json")
    assert (options.url, options.api_key_file, options.git) == ("http://127.0.0.1:8000", None, "0123456789ab")
    assert re.fullmatch(rf"{re.escape(str(clone.root))}/results/\d{{8}}-\d{{6}}-chat", options.result or "")


def test_here_takes_the_key_that_the_gateway_asks_for(vllmstack: Run, here: Here, clone: Clone) -> None:
    with (clone.project.rendered("smoke") / "compose.env").open("a") as values:
        values.write("VLLMSTACK_API_KEYS_FILE=secrets/api_keys\n")

    vllmstack("load", "--here")

    assert here.options
    assert here.options.api_key_file == str(clone.project.secrets / "stack_key")


def test_another_server_may_be_measured(vllmstack: Run, here: Here) -> None:
    vllmstack("load", "--here", "--url", "http://127.0.0.1:9000")

    assert here.options
    assert here.options.url == "http://127.0.0.1:9000"


def test_inside_the_container_it_measures_by_itself(
    vllmstack: Run, here: Here, container: Container, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vllmstack.commands.measurement.has_loadtest_extra", lambda: pytest.fail("it is an image's"))
    monkeypatch.setenv("VLLMSTACK_IN_CONTAINER", "1")
    monkeypatch.setenv("VLLMSTACK_GIT", "fedcba")
    monkeypatch.chdir(tmp_path)  # no clone, but a folder for results

    done = vllmstack("load", "--rate", "4")

    assert done.status == 0, done.err
    assert container.asked == []
    assert here.options
    assert here.options.stack == "/etc/vllmstack/loadtest/stack.json"
    assert (here.options.api_key_file, here.options.url, here.options.git) == ("/run/secrets/stack_key", None, "fedcba")
    assert re.fullmatch(r"results/\d{8}-\d{6}-chat", here.options.result or "")


def test_here_without_the_packages_says_how_to_get_them(
    vllmstack: Run, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllmstack.commands.measurement.has_loadtest_extra", lambda: False)

    done = vllmstack("load", "--here")

    assert done.status == 2
    assert done.err.startswith("vllmstack: --here: this Python has not the packages that measuring needs\n  hint: ")
    assert done.err.endswith(" -m pip install -r docker/loadtest/requirements.txt, or leave out --here\n")


def test_here_without_a_stack_exits_with_two(vllmstack: Run, here: Here, clone: Clone) -> None:
    clone.project.current.unlink()

    done = vllmstack("load", "--here")

    assert done.status == 2
    assert "nothing was started from this clone yet" in done.err


def test_the_table_and_the_place_of_the_results_are_printed(vllmstack: Run, here: Here) -> None:
    done = vllmstack("load", "--here", "--result", "results/mine")

    assert done.err == "• chat on smoke: concurrency 4\n"
    assert re.search(r"^TTFT +\d+(\.\d+)? ms", done.out, re.MULTILINE)
    assert done.out.endswith("results in results/mine/\n")


def test_an_invalid_run_exits_with_two(vllmstack: Run, here: Here) -> None:
    flag = Flag(kind="offered", severity="invalid", fact="90 % of the asked rate was sent", hint="use --processes")
    here.result = here.result.model_copy(update={"flags": [flag]})

    done = vllmstack("load", "--here")

    assert done.status == 2
    assert "✗ 90 % of the asked rate was sent\n  hint: use --processes\nINVALID: " in done.out


def test_a_run_that_cannot_start_is_one_clear_line(vllmstack: Run, here: Here) -> None:
    here.fails_with = LoadTestError(Problem(fact="http://gateway:8080 cannot be reached", hint="run `vllmstack up`"))

    done = vllmstack("load", "--here")

    assert done.status == 2
    assert done.err.endswith("vllmstack: http://gateway:8080 cannot be reached\n  hint: run `vllmstack up`\n")


def test_an_interrupted_run_shows_what_was_measured_until_then(vllmstack: Run, here: Here) -> None:
    save(here.result.model_copy(update={"interrupted": True}), Path("results/mine"))
    here.fails_with = KeyboardInterrupt()

    done = vllmstack("load", "--here", "--result", "results/mine")

    assert done.status == 130
    assert "interrupted: these numbers are of what was measured until then\n" in done.out
    assert done.out.endswith("results in results/mine/\n")


def test_an_interruption_before_anything_was_measured_is_only_that(vllmstack: Run, here: Here) -> None:
    here.fails_with = KeyboardInterrupt()

    done = vllmstack("load", "--here")

    assert (done.status, done.out) == (130, "")
