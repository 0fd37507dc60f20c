"""Grafana itself, where its image is on the machine or can be pulled: it loads every dashboard, and shows it."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx2
import pytest
from playwright.sync_api import Browser

from vllmstack.images import load_images

ROOT = Path(__file__).parents[2]
BOARDS = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "grafana/dashboards").glob("*.json"))}
URL = "http://127.0.0.1:13000"
PASSWORD = "of-a-test-that-lasts-a-minute"


@pytest.fixture(scope="module")
def grafana() -> Iterator[httpx2.Client]:
    """Provisioned as in compose.yaml; there is no Prometheus behind it."""
    client = docker.from_env(timeout=300)
    reference = load_images(ROOT / "docker/images.yaml").images["grafana"].reference
    try:
        client.images.get(reference)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(reference)
        except docker.errors.APIError as error:
            pytest.skip(f"{reference} is not on this machine and cannot be pulled: {error.explanation}")
    container = client.containers.run(
        reference,
        detach=True,
        auto_remove=True,
        ports={"3000/tcp": ("127.0.0.1", 13000)},
        environment={
            "GF_SECURITY_ADMIN_PASSWORD": PASSWORD,
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
            "VLLMSTACK_SCRAPE_SECONDS": "5",
        },
        volumes={
            str(ROOT / "grafana/provisioning"): {"bind": "/etc/grafana/provisioning", "mode": "ro"},
            str(ROOT / "grafana/dashboards"): {"bind": "/etc/vllmstack/dashboards", "mode": "ro"},
        },
    )
    try:
        with httpx2.Client(base_url=URL, auth=("admin", PASSWORD), timeout=30) as http:
            for _ in range(240):
                try:
                    if http.get("/api/health").status_code == httpx2.codes.OK:
                        break
                except httpx2.TransportError:
                    pass
                time.sleep(0.5)
            yield http
    finally:
        container.stop(timeout=5)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_provisioned_as_it_is_committed(grafana: httpx2.Client, name: str) -> None:
    board: dict[str, Any] = BOARDS[name]

    answer = grafana.get(f"/api/dashboards/uid/{board['uid']}")

    assert answer.status_code == 200, answer.text
    assert answer.json()["meta"]["provisioned"] is True
    titles = [panel["title"] for panel in answer.json()["dashboard"]["panels"]]
    assert titles == [panel["title"] for panel in board["panels"]]


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_shows_its_first_row(grafana: httpx2.Client, browser: Browser, name: str, tmp_path: Path) -> None:
    board = BOARDS[name]
    context = browser.new_context(
        viewport={"width": 1600, "height": 1000},
        http_credentials={"username": "admin", "password": PASSWORD, "send": "always"},
    )
    page = context.new_page()

    page.goto(f"{URL}/d/{board['uid']}?kiosk", wait_until="networkidle", timeout=60_000)
    for panel in board["panels"]:
        if panel["gridPos"]["y"] == 0:
            page.get_by_text(panel["title"], exact=True).first.wait_for(timeout=30_000)
    page.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"grafana-{name}.png")
    text = page.inner_text("body")
    context.close()

    assert "Failed to load" not in text
    assert "Panel plugin not found" not in text
