"""`vllmstack apply`: the steps to a changed file, what the gateway is told and when, and what a failure leaves."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.unit.conftest import SMOKE, Clone, Outcome
from tests.unit.fake_docker import FakeContainer, FakeDocker
from tests.unit.rolling_machine import MONITORING, RollingMachine
from vllmstack.host import replica_roll

Run = Callable[..., Outcome]

OTHER = """\
  - name: other
    source: {directory: ../models/smoke}
    engine: vllm-cpu
    cpus: 1
    memory_gib: 4
    environment: {VLLM_CPU_KVCACHE_SPACE: "1"}
    serve: {enforce_eager: true, dtype: float32, max_model_len: 256}
"""


def deploy(rolling: RollingMachine, text: str = SMOKE, gateway: str = "") -> None:
    """Changes the file that runs."""
    rolling.clone.deployment(f"{text}gateway: {{port: {rolling.port}{gateway}}}\n")


def routed(rolling: RollingMachine) -> dict[str, list[str]]:
    """Replicas by model, as nginx has loaded them."""
    return {model["name"]: model["replicas"] for model in rolling.routes["models"]}


def files(rolling: RollingMachine) -> dict[str, str]:
    """All that is rendered."""
    folder = rolling.clone.project.rendered("smoke")
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def shorter(text: str = SMOKE) -> str:
    """With another engine option."""
    return text.replace("max_model_len: 256", "max_model_len: 128")


def test_an_unchanged_file_is_nothing_to_do(vllmstack: Run, rolling: RollingMachine) -> None:
    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert done.err.endswith("• smoke runs as deployments/smoke.yaml says: nothing to do\n")
    assert rolling.events == []


def test_a_new_replica_is_started_before_the_gateway_hears_of_it(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 3"))

    done = vllmstack("apply", "smoke")

    assert done.status == 0, done.err
    assert rolling.events == ["make engine-smoke-3", "reload", "resume engine-smoke-3"]
    assert rolling.named("engine-smoke-3").asked == [["warm", "smoke"]]
    assert routed(rolling) == {"smoke": ["engine-smoke-1", "engine-smoke-2", "engine-smoke-3"]}
    assert len(json.loads(rolling.rendered("prometheus/engines.json"))) == 3
    assert len(json.loads(rolling.rendered("loadtest/stack.json"))["models"][0]["engines"]) == 3


def test_a_replica_less_is_drained_forgotten_and_then_removed(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 1"))

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert rolling.events == ["drain engine-smoke-2", "reload", "stop engine-smoke-2", "remove engine-smoke-2"]
    assert routed(rolling) == {"smoke": ["engine-smoke-1"]}


def test_a_replica_that_comes_again_after_its_removal_serves(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 1"))
    vllmstack("apply")
    # The gateway has not forgotten that it drained one of this name.
    assert rolling.drained == {"engine-smoke-2"}
    deploy(rolling)

    assert vllmstack("apply").status == 0
    assert rolling.drained == set()


def test_a_new_option_replaces_one_replica_after_the_other(vllmstack: Run, rolling: RollingMachine) -> None:
    before = {one.service: one.digest for one in rolling.stack}
    deploy(rolling, shorter())

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert rolling.events == [
        f"{what} engine-smoke-{number}" for number in (1, 2) for what in ("drain", "stop", "make", "resume")
    ]
    assert "• step 1 of 2: replace engine-smoke-1: changed: max-model-len\n" in done.err
    assert rolling.named("engine-smoke-1").digest != before["engine-smoke-1"]
    assert vllmstack("apply").err.endswith("nothing to do\n")


def test_an_engines_options_lie_in_a_file_that_never_changes(vllmstack: Run, rolling: RollingMachine) -> None:
    def mounted() -> str:
        service = yaml.safe_load(rolling.rendered("engines.compose.yaml"))["services"]["engine-smoke-1"]
        return str(service["volumes"][0]["source"])

    old = mounted()
    deploy(rolling, shorter())
    rolling.broken["engine-smoke-2"] = ("ValueError: no",)

    assert vllmstack("apply").status == 1

    # Docker may start both again at any time: the one that has changed and the one that has not.
    options = {path: text for path, text in files(rolling).items() if path.startswith("engines/")}
    assert len(options) == 2
    assert mounted() == old
    del rolling.broken["engine-smoke-2"]
    assert vllmstack("apply").status == 0
    assert [path for path in files(rolling) if path.startswith("engines/")] == [mounted().removeprefix("./")]


def test_a_new_model_is_served_and_one_that_goes_is_refused_before_it_stops(
    vllmstack: Run, rolling: RollingMachine
) -> None:
    deploy(rolling, SMOKE + OTHER)
    assert vllmstack("apply").status == 0
    assert rolling.events == ["make engine-other-1", "reload", "resume engine-other-1"]
    assert set(routed(rolling)) == {"smoke", "other"}
    rolling.events.clear()
    deploy(rolling)

    assert vllmstack("apply").status == 0
    # Not drained: its requests would be held, for a replica that does not come.
    assert rolling.events == ["reload", "stop engine-other-1", "remove engine-other-1"]
    assert set(routed(rolling)) == {"smoke"}


def test_the_gateways_own_settings_are_a_reload(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, gateway=", body_limit_mib: 7")

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert rolling.events == ["reload"]
    assert "• step 1 of 1: reload gateway: changed: limits.conf\n" in done.err
    # By nginx itself: after Docker's own kill, Docker would not start a crashed gateway again.
    assert not any("kill" in call for call in rolling.calls())


def test_another_port_is_a_new_container_and_said_to_be(vllmstack: Run, rolling: RollingMachine) -> None:
    assert rolling.server
    rolling.server.shutdown()
    rolling.server.server_close()
    rolling.server, old = None, rolling.port
    rolling.port = old + 1 if old < 65535 else old - 1
    deploy(rolling)

    done = vllmstack("apply")

    assert done.status == 0, done.err
    # Grafana knows its own URL.
    assert rolling.events == ["make gateway", "make grafana"]
    assert rolling.named("gateway").host_port == rolling.port
    assert "new container for gateway: its port, certificate or keys file has changed" in done.err


def test_a_new_gateway_comes_before_the_replicas(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.named("gateway").image = "an older one"
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 3"))

    done = vllmstack("apply")

    # `gateway-control`, which the rest needs, may be newer than the old container.
    assert done.status == 0, done.err
    assert rolling.events == ["make gateway", "make engine-smoke-3", "resume engine-smoke-3"]
    assert "step 1 of 2: new container for gateway: its image has changed\n" in done.err


def test_a_certificate_that_was_renewed_is_a_reload(
    vllmstack: Run, rolling: RollingMachine, certificate: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllmstack.commands.rolling.await_ready", lambda *_, **__: None)
    monkeypatch.setattr("vllmstack.commands.rolling.check_key", lambda *_: None)
    deploy(rolling, gateway=", tls: {certificate: cert.pem, key: key.pem}")
    assert vllmstack("apply").status == 0
    rolling.events.clear()
    file = certificate.project.deployments / "cert.pem"
    file.write_text(f"renewed\n{file.read_text()}")

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert rolling.events == ["reload"]
    assert "reload gateway: changed: tls_certificate\n" in done.err
    assert (certificate.project.secrets / "tls_certificate").read_text() == file.read_text()


def test_what_prometheus_reads_at_its_start_makes_a_new_one(vllmstack: Run, rolling: RollingMachine) -> None:
    text = f"{SMOKE}monitoring: {{retention_days: 3}}\n"
    deploy(rolling, text)

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert rolling.events == ["make prometheus"]
    assert "new container for prometheus: changed: retention_days\n" in done.err


def test_targets_prometheus_sees_by_itself(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, f"{SMOKE}monitoring: {{scrape_seconds: 9}}\n")

    done = vllmstack("apply")

    assert done.status == 0, done.err
    # Grafana's data source is told the interval in a variable.
    assert rolling.events == ["make grafana"]
    assert '"__scrape_interval__": "9s"' in rolling.rendered("prometheus/engines.json")


def test_grafana_goes_when_the_deployment_has_it_no_longer(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, f"{SMOKE}monitoring: {{grafana: false}}\n")

    assert vllmstack("apply").status == 0
    assert "grafana" not in rolling.services()


def test_what_was_stopped_or_removed_by_hand_is_made_again(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.named("engine-smoke-1").removed = True
    stopped = rolling.named("engine-smoke-2")
    stopped.status, stopped.health = "exited", "unhealthy"
    rolling.named("prometheus").removed = True

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert [event for event in rolling.events if event.startswith("make")] == [
        "make engine-smoke-1",
        "make engine-smoke-2",
        "make prometheus",
    ]
    assert "replace engine-smoke-2: it is exited\n" in done.err


def test_an_image_that_was_built_again_replaces_what_runs_the_old_one(vllmstack: Run, rolling: RollingMachine) -> None:
    for number in (1, 2):
        rolling.named(f"engine-smoke-{number}").image = "an older one"

    done = vllmstack("apply", "--dry-run")

    assert done.out == (
        "1. replace engine-smoke-1: its image has changed\n2. replace engine-smoke-2: its image has changed\n"
    )


def test_a_dry_run_prints_the_steps_and_changes_nothing(vllmstack: Run, rolling: RollingMachine) -> None:
    before = files(rolling)
    deploy(rolling, shorter(SMOKE.replace("replicas: 2", "replicas: 1")) + OTHER)

    done = vllmstack("apply", "--dry-run")

    assert done.status == 0, done.err
    assert done.out == (
        "1. start engine-other-1: it is new\n"
        "2. replace engine-smoke-1: changed: max-model-len\n"
        "3. drain engine-smoke-2: it goes\n"
        "4. reload gateway: changed: routes.json, upstreams.conf\n"
        "5. remove engine-smoke-2: the deployment has it no longer\n"
    )
    assert rolling.events == []
    assert files(rolling) == before
    assert rolling.pulled == []


def test_a_dry_run_without_a_change_says_so(vllmstack: Run, rolling: RollingMachine) -> None:
    assert vllmstack("apply", "--dry-run").out == "smoke runs as deployments/smoke.yaml says: nothing to do\n"


def test_a_changed_replica_that_fails_is_put_back_and_the_rest_is_left(vllmstack: Run, rolling: RollingMachine) -> None:
    before = files(rolling)
    old = rolling.named("engine-smoke-1").digest
    deploy(rolling, shorter())
    fails_once(rolling, "engine-smoke-1")

    done = vllmstack("apply")

    assert done.status == 1
    assert "vllmstack: engine-smoke-1: the container stopped (exit 1) while starting" in done.err
    assert "    ValueError: no such length\n" in done.err
    assert rolling.events == [
        *("drain engine-smoke-1", "stop engine-smoke-1", "make engine-smoke-1"),
        *("make engine-smoke-1", "resume engine-smoke-1"),
    ]
    assert rolling.named("engine-smoke-1").digest == old
    assert rolling.drained == set()
    assert re.search(r"• +\d+\.\d s engine-smoke-1: serves again as it did before\n", done.err)
    assert "!   replace engine-smoke-2: changed: max-model-len\n" in done.err
    after = files(rolling)
    assert {path: after[path] for path in before} == before


def fails_once(rolling: RollingMachine, service: str) -> None:
    """The next container of the service dies at its start; the one after it does not."""
    rolling.broken[service] = ("ValueError: no such length",)
    make = rolling._make

    def once(service: str) -> None:
        make(service)
        rolling.broken.pop(service, None)

    rolling._make = once  # type: ignore[method-assign]


def test_a_new_replica_that_fails_is_removed_and_nobody_else_touched(vllmstack: Run, rolling: RollingMachine) -> None:
    before = files(rolling)
    rolling.broken["engine-smoke-3"] = ("ValueError: no memory left",)
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 3"))

    done = vllmstack("apply")

    assert done.status == 1
    assert "    ValueError: no memory left\n" in done.err
    assert rolling.events[0] == "make engine-smoke-3"
    assert rolling.events[-1] == "remove engine-smoke-3"
    assert "reload" not in rolling.events
    assert rolling.services() == sorted(["engine-smoke-1", "engine-smoke-2", "gateway", *MONITORING])
    assert files(rolling) == before
    assert "!   reload gateway: changed: routes.json, upstreams.conf\n" in done.err


def test_a_new_replica_that_gives_no_token_has_failed_too(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.silent["engine-smoke-3"] = "500 CUDA error"
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 3"))

    done = vllmstack("apply")

    assert done.status == 1
    assert "vllmstack: engine-smoke-3: answers no request: 500 CUDA error\n" in done.err
    assert "engine-smoke-3" not in rolling.services()


def test_what_nginx_refuses_is_put_back_before_it_is_told(vllmstack: Run, rolling: RollingMachine) -> None:
    before = files(rolling)
    rolling.refused = 'nginx: [emerg] invalid value "7x" in limits.conf:3'
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 3"), gateway=", body_limit_mib: 7")

    done = vllmstack("apply")

    assert done.status == 1
    assert 'vllmstack: gateway: nginx refuses its new configuration:\n    nginx: [emerg] invalid value "7x"' in done.err
    assert "reload" not in rolling.events
    assert "engine-smoke-3" not in rolling.services()
    assert files(rolling) == before


def test_a_reload_that_nginx_does_not_take_over_is_put_back(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllmstack.host.gateway_reload.RELOAD_SECONDS", 0.05)
    before = files(rolling)
    rolling.named("gateway").log = ("[notice] reconfiguring", '[emerg] zone "requests" is already bound')
    rolling.ignores_reloads = True
    deploy(rolling, gateway=", body_limit_mib: 7")

    done = vllmstack("apply")

    assert done.status == 1
    assert "nginx did not take over its new configuration:\n    [emerg] zone" in done.err
    assert rolling.events == ["reload", "reload"]
    assert files(rolling) == before


def test_a_replica_that_the_gateway_does_not_take_in_has_failed(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_roll, "SERVING_SECONDS", 0.05)
    state = rolling._state
    silent = {"state": "starting", "detail": "no token within 5 s"}
    monkeypatch.setattr(
        rolling, "_state", lambda name, model: state(name, model) | (silent if name == "engine-smoke-3" else {})
    )
    deploy(rolling, SMOKE.replace("replicas: 2", "replicas: 3"))

    done = vllmstack("apply")

    assert done.status == 1
    assert "engine-smoke-3: the gateway does not take it in: starting, no token within 5 s\n" in done.err
    assert routed(rolling) == {"smoke": ["engine-smoke-1", "engine-smoke-2"]}
    assert "engine-smoke-3" not in rolling.services()


def test_an_interruption_puts_the_replica_back_without_waiting_for_it(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = files(rolling)
    old = rolling.named("engine-smoke-1").digest
    monkeypatch.setattr(replica_roll, "await_service", interrupted)
    deploy(rolling, shorter())

    done = vllmstack("apply")

    assert done.status == 130
    assert rolling.events[-2:] == ["make engine-smoke-1", "resume engine-smoke-1"]
    assert rolling.named("engine-smoke-1").digest == old
    assert {path: files(rolling)[path] for path in before} == before
    assert "!   replace engine-smoke-2: changed: max-model-len\n" in done.err


def test_one_that_somebody_drained_is_named(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.drained.add("engine-smoke-2")
    deploy(rolling, gateway=", body_limit_mib: 7")

    done = vllmstack("apply")

    assert "! engine-smoke-2 is drained at the gateway, and stays so: `vllmstack restart smoke` ends that\n" in done.err


def test_another_deployment_is_not_applied(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.clone.deployment(SMOKE.replace("name: smoke\nd", "name: second\nd"), name="second")

    done = vllmstack("apply", "second")

    assert done.status == 1
    assert done.err.startswith("vllmstack: deployments/second.yaml: is the deployment second, and smoke runs\n")
    assert "`vllmstack up deployments/second.yaml` replaces it" in done.err


def test_left_out_it_is_the_file_that_runs(vllmstack: Run, rolling: RollingMachine, tmp_path: Path) -> None:
    elsewhere = rolling.clone.root / "elsewhere.yaml"
    shutil.move(rolling.clone.project.deployments / "smoke.yaml", elsewhere)
    elsewhere.write_text(elsewhere.read_text().replace("../models", "models"))
    assert vllmstack("up", "elsewhere.yaml").status == 0

    assert vllmstack("apply").err.endswith("• smoke runs as elsewhere.yaml says: nothing to do\n")


def test_a_stack_that_is_down_is_said_to_be(vllmstack: Run, clone: Clone, programs: object, daemon: FakeDocker) -> None:
    clone.is_up()
    daemon.stack = [FakeContainer(service="gateway", status="exited")]

    done = vllmstack("apply")

    assert done.status == 1
    assert done.err.endswith("vllmstack: smoke is down\n  hint: `vllmstack up deployments/smoke.yaml` starts it\n")


HUB = OTHER.replace("directory: ../models/smoke", "hub: org/other")
GATED = {"file": "org/other", "place": "", "fact": "is gated, and there is no token", "hint": "accept its licence"}


def test_a_model_of_the_hub_is_brought_before_anything_is_touched(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, SMOKE.replace("max_model_len: 256", "max_model_len: 128") + HUB)

    done = vllmstack("apply")

    assert done.status == 0, done.err
    made = [event for event in rolling.events if event.startswith(("make", "drain", "reload"))]
    assert made[:2] == ["make preload-other", "make engine-other-1"]
    assert "• preload-other: 111111111111 is there" in done.err
    assert "! other: org/other is not locked to a commit: `vllmstack models pull deployments/smoke.yaml`" in done.err
    assert "preload-other" not in rolling.services()
    assert "engine-other-1" in rolling.services()


def test_what_the_hub_does_not_give_leaves_everything_as_it_was(vllmstack: Run, rolling: RollingMachine) -> None:
    before = files(rolling)
    deploy(rolling, shorter() + HUB)
    rolling.hub_fails["preload-other"] = GATED

    done = vllmstack("apply")

    assert done.status == 1
    assert "vllmstack: org/other: is gated, and there is no token\n  hint: accept its licence" in done.err
    assert [event for event in rolling.events if event.startswith(("drain", "stop", "reload"))] == []
    assert rolling.services() == sorted((*MONITORING, "gateway", "engine-smoke-1", "engine-smoke-2"))
    after = files(rolling)
    assert {path: after[path] for path in before} == before


def test_a_preload_is_run_only_for_models_of_which_a_container_is_made(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, SMOKE + HUB)
    vllmstack("apply")
    rolling.events.clear()
    deploy(rolling, shorter() + HUB)

    done = vllmstack("apply")

    assert done.status == 0, done.err
    assert not any("preload" in event for event in rolling.events)


def test_a_moved_lock_replaces_the_models_replicas(vllmstack: Run, rolling: RollingMachine) -> None:
    deploy(rolling, SMOKE + HUB)
    lock = rolling.clone.project.deployments / "models.lock"
    entry = "- {hub: org/other, revision: main, commit: %s, files: {model.safetensors: {bytes: 2, blob: %s}}}\n"
    lock.write_text("models:\n" + entry % ("a" * 40, "b" * 40))
    vllmstack("apply")
    rolling.events.clear()
    unchanged = vllmstack("apply", "--dry-run")
    lock.write_text("models:\n" + entry % ("c" * 40, "b" * 40))

    foretold = vllmstack("apply", "--dry-run")
    done = vllmstack("apply")

    assert "nothing to do" in unchanged.out
    assert foretold.out.splitlines() == [
        "1. preload preload-other: its engines read its files",
        "2. replace engine-other-1: changed: revision",
    ]
    assert done.status == 0, done.err
    assert "is not locked" not in done.err
    assert rolling.events[:2] == ["make preload-other", "drain engine-other-1"]
