"""scripts/bootstrap.sh: whose environment it installs into."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that has nothing but the script."""
    (tmp_path / "checkout" / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "bootstrap.sh", tmp_path / "checkout" / "scripts")
    return tmp_path / "checkout"


def bootstrap(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([checkout / "scripts" / "bootstrap.sh"], text=True, capture_output=True, check=False)


def environment(folder: Path, source: Path) -> None:
    """One that has vllmstack of that checkout, and no pip: nothing can be installed into it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "vllmstack-0.dist-info").mkdir()
    (packages / "vllmstack-0.dist-info" / "METADATA").write_text("Name: vllmstack\nVersion: 0\n")
    record = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (packages / "vllmstack-0.dist-info" / "direct_url.json").write_text(json.dumps(record))


def test_a_link_to_another_environment_is_refused(checkout: Path, tmp_path: Path) -> None:
    environment(tmp_path / "other", checkout)
    (checkout / ".venv").symlink_to("../other")

    done = bootstrap(checkout)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "vllmstack: .venv is a link to ../other: nothing is installed through it\n"
        "  hint: rm .venv, and run this again: this checkout gets one of its own\n"
    )


def test_an_environment_of_another_checkout_is_refused(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other checkout"
    other.mkdir()
    environment(checkout / ".venv", other)

    done = bootstrap(checkout)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"vllmstack: .venv belongs to the checkout in {other}\n"
        "  hint: rm -r .venv, and run this again: this checkout gets one of its own\n"
    )


@pytest.mark.parametrize("source", [".", "../moved away"])
def test_its_own_environment_is_installed_into(checkout: Path, source: str) -> None:
    environment(checkout / ".venv", (checkout / source).resolve())

    done = bootstrap(checkout)

    assert done.stderr.startswith("• installing requirements.txt into .venv\n")
    assert "No module named pip" in done.stderr
