"""One collector over HTTP, on the port that Prometheus and the health check ask."""

import os
import signal

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

PORT = 9400


def serve(collector: Collector) -> None:
    """Answers /metrics until the container is stopped. ``EXPORTER_PORT`` is another port."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    # Blocked before the server's threads are made: each would else take the signal from the one that waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    start_http_server(int(os.environ.get("EXPORTER_PORT", PORT)), registry=registry)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
