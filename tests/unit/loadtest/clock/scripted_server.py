"""Servers that say, byte for byte and break for break, what a test tells them to."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
RESET = "reset"
"""In place of bytes: the connection is reset."""
HOLD = "hold"
"""In place of bytes: nothing more comes until the client closes the connection."""

Script = Sequence[bytes | float | str]
"""Bytes to send, seconds to wait, RESET or HOLD; the connection is closed at the end unless ``keep`` is set."""


def event(data: str) -> bytes:
    """An event in an HTTP chunk of its own."""
    body = b"data: " + data.encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(body), body)


def token(number: int) -> bytes:
    """A chat chunk with the token ``number``, from 1."""
    return event(
        '{"choices":[{"index":0,"delta":{"content":"x"}}],'
        f'"usage":{{"prompt_tokens":5,"completion_tokens":{number},"total_tokens":{number + 5}}}}}'
    )


DONE = event("[DONE]")
END = b"0\r\n\r\n"


@dataclass
class ScriptedServer:
    """One that listens."""

    url: str
    connections: int = 0
    closed: int = 0
    """Connections that it ended after their script."""
    requests: list[bytes] = field(default_factory=list)
    """Head and body of each."""
    closed_by_client: threading.Event = field(default_factory=threading.Event)


@contextmanager
def scripted_server(
    *scripts: Script, keep: bool = False, context: ssl.SSLContext | None = None
) -> Iterator[ScriptedServer]:
    """Answers the first request by the first script and so on, the last again and again; with TLS by ``context``."""
    listener = socket.create_server(("127.0.0.1", 0))
    scheme = "https" if context else "http"
    server = ScriptedServer(url=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
    left = list(scripts)

    def serve(plain: socket.socket) -> None:
        plain.settimeout(60)
        try:
            connection = context.wrap_socket(plain, server_side=True) if context else plain
        except ssl.SSLError:  # the client does not trust it
            plain.close()
            return
        with connection:
            while request := _read_request(connection):
                server.requests.append(request)
                if not _play(connection, left.pop(0) if len(left) > 1 else left[0], server) or not keep:
                    break
        server.closed += 1

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        if not data:
            return b""
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0].partition(b":")[2]) - len(body)
    while missing > 0:
        data = connection.recv(missing)
        received += data
        missing -= len(data)
    return received


def _play(connection: socket.socket, script: Script, server: ScriptedServer) -> bool:
    for step in script:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, float):
            time.sleep(step)
        elif step == HOLD:
            if not connection.recv(1):
                server.closed_by_client.set()
            return False
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
    return True
