"""A browser, and a Locust that has not started anything yet."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web.running import ROOT, Locust, running_locust

expect.set_options(timeout=30_000)  # the page asks each second, and the browser is behind all others

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Behind the load test for the cores they share: a client that it makes late has no verdict to show."""
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: install it, or name another by CHROMIUM=")
    polite = tmp_path_factory.mktemp("browser") / "chromium"
    polite.write_text(f'#!/bin/sh\nexec nice -n 19 {shlex.quote(str(CHROMIUM))} "$@"\n')
    polite.chmod(0o755)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=polite, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose script must not fail, nor want anything from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda request: None if "//127.0.0.1" in request.url else faults.append(request.url))
    yield opened
    context.close()
    assert faults == []


@pytest.fixture(scope="module")
def mock_engine() -> Iterator[int]:
    """The port of an engine that answers after 50 ms, a token every 5 ms."""
    command = [
        sys.executable, "-m", "loadtest.trust.mock_server", "--port", "0", "--model", "smoke",
        "--ttft-seconds", "0.05", "--itl-seconds", "0.005", "--lifetime-seconds", "600",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def locust(mock_engine: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locust]:
    with running_locust(mock_engine, tmp_path_factory.mktemp("locust")) as running:
        yield running
