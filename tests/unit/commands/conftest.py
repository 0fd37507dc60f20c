"""A stack that is up, for the commands that change one."""

import shutil
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.unit.conftest import GIB, SMOKE, Clone, Outcome, Programs
from tests.unit.rolling_machine import RollingMachine
from vllmstack.host import gateway_reload, image_supply, replica_roll, startup
from vllmstack.images import load_images
from vllmstack.planning.inventory import Inventory


@pytest.fixture
def rolling(
    clone: Clone,
    programs: Programs,
    inventory: Inventory,
    monkeypatch: pytest.MonkeyPatch,
    vllmstack: Callable[..., Outcome],
) -> Iterator[RollingMachine]:
    """The deployment ``smoke`` is up: two replicas of the model smoke."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
