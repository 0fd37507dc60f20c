"""Containers by their service, the certificate, and the last changes."""

import datetime
import json
from pathlib import Path

import pytest
from container_exporter import ContainerCollector
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, generate_latest

ENGINE, GATEWAY, STRANGER = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Three containers, two of them the stack's."""
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup" / "cgroup.controllers").write_text("cpu\n")
    for number, identity in enumerate((ENGINE, GATEWAY, STRANGER), start=1):
        folder = tmp_path / "cgroup" / "docker" / identity
        folder.mkdir(parents=True)
        (folder / "cpu.stat").write_text(f"usage_usec {number}000000\n")
    (tmp_path / "containers.json").write_text(
        json.dumps(
            {
                ENGINE: {"service": "engine-smoke-1", "model": "smoke", "replica": "engine-smoke-1"},
                GATEWAY: {"service": "gateway", "model": "", "replica": ""},
                "d" * 64: {"service": "prometheus", "model": "", "replica": ""},
            }
        )
    )
    return tmp_path


def exposed(host: Path) -> list[str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ContainerCollector(cgroups=host / "cgroup", facts=host, certificate=host / "certificate"))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def certificate(*until: datetime.datetime) -> bytes:
    """A chain that ends at these moments."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    chain = b""
    for moment in until:
        builder = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=1,
            not_valid_before=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
            not_valid_after=moment,
        )
        chain += builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return chain


def test_a_container_has_its_services_name_and_strangers_have_none(host: Path) -> None:
    assert exposed(host) == [
        'vllmstack_container_cpu_seconds_total{model="smoke",replica="engine-smoke-1",service="engine-smoke-1"} 1.0',
        'vllmstack_container_cpu_seconds_total{model="",replica="",service="gateway"} 2.0',
    ]


def test_before_the_first_start_has_ended_there_is_nothing(host: Path) -> None:
    (host / "containers.json").unlink()

    assert exposed(host) == []


def test_the_moment_of_each_last_change_is_told(host: Path) -> None:
    (host / "changes.json").write_text(json.dumps({"up": 1000, "apply": 2000}))

    assert exposed(host)[-2:] == [
        'vllmstack_change_timestamp_seconds{verb="up"} 1000.0',
        'vllmstack_change_timestamp_seconds{verb="apply"} 2000.0',
    ]


def test_of_a_chain_the_first_certificate_to_expire_counts(host: Path) -> None:
    early, late = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2030, 2040))
    (host / "certificate").write_bytes(certificate(late, early))

    assert f"vllmstack_certificate_expires_timestamp_seconds {early.timestamp()}" in [
        _plain(line) for line in exposed(host)
    ]


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_without_a_certificate_none_expires(host: Path, text: str) -> None:
    (host / "certificate").write_text(text)

    assert not any("certificate" in line for line in exposed(host))


def _plain(line: str) -> str:
    """With its value as Python writes it."""
    name, _, value = line.rpartition(" ")
    return f"{name} {float(value)}"
