"""What Docker says of the stack's containers, in words for a person."""

from pathlib import Path

import docker.errors
import pytest
import requests.exceptions

from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.errors import HostError
from vllmstack.host.containers import connect, containers, engine_metrics, last_lines, warm_engine


@pytest.fixture
def daemon(tmp_path: Path) -> FakeDocker:
    return FakeDocker(tmp_path)


@pytest.mark.parametrize(
    ("status", "health", "line", "word"),
    [
        ("running", "starting", "", "loading"),
        ("running", "starting", "loading: not listening yet", "loading"),
        ("running", "healthy", "serving: /health says 200", "serving"),
        ("running", "healthy", "broken: /health says 500", "broken"),
        ("running", "unhealthy", "loading: not listening yet", "broken"),
        ("running", "unhealthy", "broken: answered before, and now: refused", "broken"),
        ("running", "healthy", "OCI runtime exec failed: no such file", "loading"),
        ("running", "", "", "loading"),
        ("exited", "unhealthy", "serving: /health says 200", "stopped"),
        ("created", "", "", "waiting"),
        ("restarting", "unhealthy", "", "restarting"),
        ("dead", "", "", "dead"),
    ],
)
def test_an_engines_state_is_one_word(daemon: FakeDocker, status: str, health: str, line: str, word: str) -> None:
    daemon.stack = [
        FakeContainer(service="engine-a-1", model="a", replica=1, status=status, health=health, health_line=line)
    ]

    (seen,) = containers(daemon.client)

    assert seen.is_engine
    assert seen.state == word
    assert seen.health_line == line


@pytest.mark.parametrize(
    ("status", "health", "word"),
    [
        ("running", "healthy", "healthy"),
        ("running", "starting", "starting"),
        ("running", "unhealthy", "unhealthy"),
        ("running", "", "running"),
        ("exited", "unhealthy", "stopped"),
    ],
)
def test_other_services_states_are_dockers_own_words(daemon: FakeDocker, status: str, health: str, word: str) -> None:
    daemon.stack = [FakeContainer(service="prometheus", status=status, health=health)]

    (seen,) = containers(daemon.client)

    assert not seen.is_engine
    assert seen.state == word


def test_engines_come_first_by_model_and_replica_then_the_others_by_name(daemon: FakeDocker) -> None:
    daemon.stack = [
        FakeContainer(service="prometheus"),
        FakeContainer(service="engine-b-10", model="b", replica=10),
        FakeContainer(service="engine-b-2", model="b", replica=2),
        FakeContainer(service="gateway"),
        FakeContainer(service="engine-a-1", model="a", replica=1),
    ]

    services = [one.service for one in containers(daemon.client)]

    assert services == ["engine-a-1", "engine-b-2", "engine-b-10", "gateway", "prometheus"]


def test_stopped_containers_are_seen_and_other_projects_are_not(
    daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.stack = [
        FakeContainer(service="gateway", status="exited"),
        FakeContainer(service="other", project="second"),
    ]

    assert [one.service for one in containers(daemon.client)] == ["gateway"]
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "second")
    assert [one.service for one in containers(daemon.client)] == ["other"]


def test_a_container_that_goes_between_the_two_questions_is_left_out(daemon: FakeDocker) -> None:
    going, staying = FakeContainer(service="going"), FakeContainer(service="staying")
    daemon.stack = [staying]
    daemon.look = lambda: [going, staying]  # type: ignore[method-assign]

    assert [one.service for one in containers(daemon.client)] == ["staying"]


def test_all_that_a_look_shows_is_there(daemon: FakeDocker) -> None:
    daemon.stack = [
        FakeContainer(
            service="engine-a-1", model="org/a", replica=1, gpus="0,1", status="exited", restarts=2, exit_code=137,
            out_of_memory=True,
        ),
        FakeContainer(service="gateway", host_port=8000),
    ]  # fmt: skip

    engine, gateway = containers(daemon.client)

    assert (engine.model, engine.replica, engine.gpus) == ("org/a", 1, "0,1")
    assert (engine.restarts, engine.exit_code, engine.out_of_memory) == (2, 137, True)
    assert (engine.host_ports, gateway.host_ports) == ((), (8000,))


def test_last_lines_are_the_containers_own(daemon: FakeDocker) -> None:
    daemon.stack = [FakeContainer(service="gateway", log=("one", "two", "three"))]
    (seen,) = containers(daemon.client)

    assert last_lines(daemon.client, seen, 2) == ["two", "three"]


def test_last_lines_of_json_are_the_text_that_they_stand_for(daemon: FakeDocker) -> None:
    log = (
        '{"level": "INFO", "process": "APIServer", "pid": 7, "message": "Application startup complete."}',
        '{"level": "ERROR", "message": "EngineCore failed to start.", "exc_info": "Traceback:\\nValueError: too long"}',
    )
    daemon.stack = [FakeContainer(service="engine-smoke-1", log=log)]
    (seen,) = containers(daemon.client)

    assert last_lines(daemon.client, seen, 2) == [
        "(APIServer pid=7) INFO Application startup complete.",
        "ERROR EngineCore failed to start.",
        "ERROR Traceback:",
        "ERROR ValueError: too long",
    ]


def test_a_container_that_is_gone_has_no_last_lines_and_no_metrics(daemon: FakeDocker) -> None:
    daemon.stack = [FakeContainer(service="gateway", log=("one",), metrics=["a 1"])]
    (seen,) = containers(daemon.client)
    daemon.stack = []

    assert last_lines(daemon.client, seen, 2) == []
    assert engine_metrics(daemon.client, seen) is None


def test_metrics_are_asked_for_inside_the_container(daemon: FakeDocker) -> None:
    daemon.stack = [FakeContainer(service="engine-a-1", model="a", replica=1, metrics=["a 1\n"])]
    (seen,) = containers(daemon.client)

    assert engine_metrics(daemon.client, seen) == "a 1\n"
    assert engine_metrics(daemon.client, seen) is None  # it does not answer any more


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((0, "200 {}"), ""),
        ((0, "404 an embedding model has no completions"), ""),
        ((1, "500 CUDA error\n"), "500 CUDA error"),
        ((137, ""), "no answer"),
        (requests.exceptions.ReadTimeout("Read timed out."), "Read timed out."),
        (docker.errors.APIError("container is not running"), "container is not running"),
    ],
)
def test_a_first_token_is_asked_for_inside_the_container(
    daemon: FakeDocker, answer: tuple[int, str] | Exception, complaint: str
) -> None:
    one = FakeContainer(service="engine-a-1", model="org/a", replica=1, warm=answer)
    daemon.stack = [one]
    (seen,) = containers(daemon.client)

    assert warm_engine(daemon.client, seen) == complaint
    assert one.asked == [["warm", "org/a"]]


@pytest.mark.parametrize(
    "error", [docker.errors.DockerException("connection refused"), requests.exceptions.ReadTimeout("timed out")]
)
def test_a_daemon_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(**options: object) -> None:
        raise error

    monkeypatch.setattr("docker.from_env", refuse)

    with pytest.raises(HostError) as caught:
        connect()

    assert str(caught.value) == (
        f"the Docker daemon does not answer: {error}\n  hint: start it, or run `vllmstack doctor`"
    )


def test_a_preload_that_has_ended_well_is_done_and_one_that_has_not_is_stopped(daemon: FakeDocker) -> None:
    daemon.stack = [
        FakeContainer(service="preload-a", preloads="a", status="exited", health=""),
        FakeContainer(service="preload-b", preloads="b", status="exited", health="", exit_code=1),
        FakeContainer(service="preload-c", preloads="c", health=""),
    ]

    seen = containers(daemon.client)

    assert [(one.preloads, one.state, one.is_done, one.is_engine) for one in seen] == [
        ("a", "done", True, False),
        ("b", "stopped", False, False),
        ("c", "running", False, False),
    ]
