"""Ports for servers that are told theirs before they listen."""

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 20_000


def free_port() -> int:
    """One that nothing listens on, and that the kernel gives to no connection until something does."""
    highest = int(RANGE.read_text().split()[0]) if RANGE.is_file() else 32_768
    while True:
        port = random.randrange(LOWEST, highest) if highest > LOWEST else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            return number
