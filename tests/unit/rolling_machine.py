"""A machine whose Docker does what Compose was told, with a gateway that knows its replicas: for rolls."""

import json
import shutil
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.ports import free_port
from tests.unit.conftest import GIB, SMOKE, Clone, FakeGateway, Outcome, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.host import gateway_reload, image_supply, replica_roll, startup
from vllmstack.images import MONITORING_SERVICES, PROFILES, image_variable, load_images
from vllmstack.planning.inventory import Inventory

MONITORING = ("prometheus", "alertmanager", "node-exporter", "container-exporter", "grafana")
"""What runs beside engines and gateway where there is no GPU."""


class RollingMachine(FakeDocker):
    """Containers are made from the rendered files as they are when Compose is called."""

    def __init__(self, root: Path, clone: Clone, programs: Programs, port: int) -> None:
        super().__init__(root)
        self.clone = clone
        self.programs = programs
        self.port = port
        self.http = FakeGateway()
        self.http.answer("/ready", "{}")
        self.http.answer("/v1/models", "{}")
        self.server: ThreadingHTTPServer | None = None
        self.deployment = "smoke"
        """Whose rendered files Compose is called on."""
        self.events: list[str] = []
        """What happened, in order: made, stopped and removed containers, drains, reloads."""
        self.routes: dict[str, Any] = {"models": []}
        """What nginx has loaded."""
        self.drained: set[str] = set()
        self.in_flight: dict[str, list[int]] = {}
        """By service: the answers of one look after the other; then 0."""
        self.broken: dict[str, tuple[str, ...]] = {}
        """By service: the log of an engine that dies at each start from now on."""
        self.silent: dict[str, str] = {}
        """By service: what a healthy engine says instead of a token."""
        self.refused = ""
        """What `nginx -t` says against the files."""
        self.ignores_reloads = False
        self.hub_fails: dict[str, dict[str, str]] = {}
        """By preload service: the Problem that it ends with."""
        self._seen_calls = 0
        self._made = 0
        self._loaded = 0

    def calls(self) -> list[str]:
        """Arguments of every `docker compose` on the deployment."""
        calls = [call for call in self.programs.calls("docker") if call.startswith("compose --project-name")]
        return [call.partition("compose.env ")[2] for call in calls]

    def named(self, service: str) -> FakeContainer:
        """The container of a service that is there."""
        return next(one for one in self.look() if one.service == service and not one.removed)

    def services(self) -> list[str]:
        """Of all containers that are there."""
        return sorted(one.service for one in self.look() if not one.removed)

    def rendered(self, path: str) -> str:
        return (self.clone.project.rendered(self.deployment) / path).read_text()

    def look(self) -> list[FakeContainer]:
        calls = self.calls()
        for call in calls[self._seen_calls :]:
            self._seen_calls += 1
            self._obey(call.split())
        return self.stack

    def _container(self, identity: str) -> FakeContainer:
        self.look()
        return super()._container(identity)

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["up", "--detach", "--remove-orphans", *_]:
                for one in self.stack:
                    one.removed = True
                profiles = self._variables().get("COMPOSE_PROFILES", "").split(",")
                others = [one for one in MONITORING_SERVICES if PROFILES.get(one, profiles[0]) in profiles]
                for service in (*self._engines(), "gateway", *others):
                    self._make(service)
            case ["up", "--detach", "--no-deps", *_, service]:
                self._make(service)
            case _:
                pass

    def _engines(self) -> dict[str, Any]:
        services: dict[str, Any] = yaml.safe_load(self.rendered("engines.compose.yaml"))["services"]
        return services

    def _variables(self) -> dict[str, str]:
        lines = (line.partition("=") for line in self.rendered("compose.env").splitlines())
        return {key: value.strip("'") for key, _, value in lines}

    def _make(self, service: str) -> None:
        self._made += 1
        for one in self.stack:
            one.removed |= one.service == service
        self.events.append(f"make {service}")
        identity = f"{service} {self._made}"
        if service.startswith("preload-"):
            labels = self._engines()[service]["labels"]
            fails = self.hub_fails.get(service)
            lines = [
                {"message": f"{service}: 111111111111 is there"},
                *([{"message": "", "problem": fails}] if fails else []),
            ]
            made: FakeContainer = Engine(
                self,
                service=service,
                id=identity,
                preloads=labels["vllmstack.preload"],
                status="exited",
                health="",
                exit_code=1 if fails else 0,
                log=tuple(map(json.dumps, lines)),
            )
        elif service in (engines := self._engines()):
            labels = engines[service]["labels"]
            made = Engine(
                self,
                service=service,
                id=identity,
                model=labels["vllmstack.model"],
                replica=int(labels["vllmstack.replica"]),
                gpus=labels["vllmstack.gpus"],
                digest=labels["vllmstack.config"],
                image=f"id of {engines[service]['image']}",
                health_line="serving: /health says 200",
                log=("2026-11-21T07:55:38.5Z INFO:     Application startup complete.",),
            )
            if service in self.broken:
                made.status, made.health, made.restarts, made.exit_code = "restarting", "starting", 1, 1
                made.log = self.broken[service]
            if service in self.silent:
                made.warm = (1, self.silent[service])
        else:
            variables = self._variables()
            made = FakeContainer(
                service=service,
                id=identity,
                digest=variables.get(f"VLLMSTACK_{service.upper()}_DIGEST", ""),
                image=f"id of {variables[image_variable(MONITORING_SERVICES.get(service, service))]}",
            )
            if service == "gateway":
                made.host_port = int(variables["VLLMSTACK_PUBLISH"].split(":")[-2])
                made.programs = {"gateway-control": self._control, "nginx": self._nginx}
                self.drained.clear()
                self._load(made)
                self._listen()
        self.stack.append(made)

    def _load(self, gateway: FakeContainer) -> None:
        self.routes = json.loads(self.rendered("gateway/routes.json"))
        ending = [(pid, f"{title} is shutting down") for pid, title in gateway.processes if "worker" in title][:1]
        self._loaded += 1
        worker = (str(100 + self._loaded), "nginx: worker process")
        gateway.processes = [("1", "nginx: master process nginx"), *ending, worker]

    def _listen(self) -> None:
        if self.server is None:
            self.server = self.http.server(self.port)

    def _control(self, words: list[str]) -> tuple[int, str]:
        known = {replica: model["name"] for model in self.routes["models"] for replica in model["replicas"]}
        if words == ["replicas"]:
            return 0, json.dumps({"replicas": [self._state(replica, model) for replica, model in known.items()]})
        action, replica = words
        if replica not in known:
            return 1, json.dumps({"error": f"there is no replica {replica}"})
        self.events.append(f"{action} {replica}")
        (self.drained.add if action == "drain" else self.drained.discard)(replica)
        return 0, json.dumps(self._state(replica, known[replica]))

    def _state(self, replica: str, model: str) -> dict[str, Any]:
        alive = any(one.service == replica and one.health == "healthy" for one in self.look() if not one.removed)
        state = "draining" if replica in self.drained else "serving" if alive else "dead"
        waiting = self.in_flight.get(replica, [])
        count = waiting.pop(0) if waiting else 0
        return {"replica": replica, "model": model, "state": state, "detail": "", "in_flight": count, "since": 0}

    def _nginx(self, words: list[str]) -> tuple[int, str]:
        if words[:2] == ["-s", "reload"]:
            self.events.append("reload")
            if not self.ignores_reloads:
                self._load(self.named("gateway"))
            return 0, ""
        assert words[0] == "-t"
        return (1, self.refused) if self.refused else (0, "")


class Engine(FakeContainer):
    """One whose end is an event."""

    def __init__(self, machine: RollingMachine, **fields: Any) -> None:
        super().__init__(**fields)
        self.machine = machine

    def stop(self, *, timeout: int) -> None:
        super().stop(timeout=timeout)
        self.machine.events.append(f"stop {self.service}")

    def remove(self, *, force: bool) -> None:
        super().remove(force=force)
        self.machine.events.append(f"remove {self.service}")


@pytest.fixture
def rolling(
    clone: Clone,
    programs: Programs,
    inventory: Inventory,
    monkeypatch: pytest.MonkeyPatch,
    vllmstack: Callable[..., Outcome],
) -> Iterator[RollingMachine]:
    """The deployment ``smoke`` is up: two replicas of the model smoke."""
    port = free_port()
    made = RollingMachine(clone.root.parent, clone, programs, port)
    clone.deployment(f"{SMOKE}gateway: {{port: {port}}}\n")
    images = load_images(clone.project.images_file).images
    bases = ("debian:bookworm-slim", "debian:trixie-slim")
    made.images_here = {reference: {} for reference in (*bases, *(image.reference for image in images.values()))}
    free = SimpleNamespace(total=1000 * GIB, used=0, free=500 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    for module in (startup, replica_roll, gateway_reload):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(image_supply, "CA_BUNDLES", ())
    monkeypatch.setattr(image_supply, "_pip_config", lambda: None)
    # What this repository builds is as it was built.
    monkeypatch.setattr(image_supply.ImageSupply, "_digest", lambda *_: "source")
    for reference in made.images_here:
        made.images_here[reference] = {image_supply.SOURCE_LABEL: "source"}
    monkeypatch.setattr("docker.from_env", lambda **_: made)
    up = vllmstack("up", "smoke")
    assert up.status == 0, up.err
    made.events.clear()
    made.http.requests.clear()
    yield made
    if made.server:
        made.server.shutdown()
        made.server.server_close()
