"""CPU time and memory of the stack's containers, the gateway's certificate, and the last changes of the stack.

The kernel's cgroups know containers by their ids alone, and Docker's socket would give whoever holds it the machine:
`vllmstack` writes down which service each id is whenever it changes the stack. A container that Docker restarts keeps
its id.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgroups import Usage, usage
from cryptography import x509
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from serving import serve

CGROUPS = Path("/host/cgroup")
FACTS = Path("/etc/vllmstack/stack")
CERTIFICATE = Path("/run/secrets/tls_certificate")

LABELS = ("service", "model", "replica")
PREFIX = "vllmstack_container_"
COUNTERS = {
    "cpu_seconds": "CPU time of the container.",
    "cpu_throttled_seconds": "Time that the container's processes had to wait because of its CPU limit.",
    "oom_kills": "Processes of the container that the kernel killed because its memory limit was reached.",
}
GAUGES = {
    "cpu_limit_cores": "CPU limit of the container.",
    "memory_bytes": "Memory of the container without page cache that can be taken back at once.",
    "memory_limit_bytes": "Memory limit of the container.",
    "processes": "Processes and threads of the container.",
}


class ContainerCollector(Collector):
    """Reads everything anew for each scrape."""

    def __init__(self, *, cgroups: Path, facts: Path, certificate: Path) -> None:
        self._cgroups = cgroups
        self._facts = facts
        self._certificate = certificate

    def collect(self) -> Iterator[Metric]:
        """All families; a container that does not run has no samples."""
        found = [(labels, used) for identity, labels in self._services() if (used := usage(self._cgroups, identity))]
        for name, help_text in COUNTERS.items():
            yield _filled(CounterMetricFamily(f"{PREFIX}{name}", help_text, labels=LABELS), name, found)
        for name, help_text in GAUGES.items():
            yield _filled(GaugeMetricFamily(f"{PREFIX}{name}", help_text, labels=LABELS), name, found)
        yield self._changes()
        expires = GaugeMetricFamily(
            "vllmstack_certificate_expires_timestamp_seconds", "When the first of the gateway's certificates expires."
        )
        for moment in self._expiry():
            expires.add_metric([], moment)
        yield expires

    def _services(self) -> Iterator[tuple[str, list[str]]]:
        for identity, named in _read(self._facts / "containers.json").items():
            yield identity, [named.get(label, "") for label in LABELS]

    def _changes(self) -> Metric:
        family = GaugeMetricFamily(
            "vllmstack_change_timestamp_seconds", "When `vllmstack` last changed the stack, by verb.", labels=["verb"]
        )
        for verb, moment in _read(self._facts / "changes.json").items():
            family.add_metric([verb], moment)
        return family

    def _expiry(self) -> Iterator[float]:
        """One number, or none where the gateway speaks plain HTTP: its secret is an empty file then."""
        try:
            text = self._certificate.read_bytes()
            if text.strip():
                yield min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(text))
        except (OSError, ValueError):
            return


def _read(file: Path) -> dict[str, Any]:
    """Of a file that is replaced whole; nothing before the stack's first start has ended."""
    try:
        facts: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return facts


def _filled(family: Any, name: str, found: list[tuple[list[str], Usage]]) -> Metric:
    for labels, used in found:
        value = getattr(used, name)
        if value is not None:
            family.add_metric(labels, value)
    metric: Metric = family
    return metric


if __name__ == "__main__":
    serve(ContainerCollector(cgroups=CGROUPS, facts=FACTS, certificate=CERTIFICATE))
