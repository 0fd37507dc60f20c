"""An engine's HTTP surface whose failures are chosen by the test.

A request's own ``mock`` field decides about that request: ``delay`` (seconds before the header), ``chunks`` and
``interval`` (a stream of events), ``die_after`` (events until the connection is closed). ``POST /control`` decides
about all that follow: ``mode`` is ``ok``, ``503`` or ``close`` (before any byte); ``health`` is a status.
``GET /control`` tells what was seen.
"""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = socket.gethostname()
LOCK = threading.Lock()
STATE: dict[str, Any] = {"mode": "ok", "health": 200, "requests": [], "aborted": 0, "active": 0}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def _reply(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self) -> None:
        """Health, model list and what was seen."""
        if self.path == "/health":
            self._reply(STATE["health"], {})
        elif self.path == "/control":
            with LOCK:
                self._reply(200, STATE)
        elif self.path == "/v1/models":
            self._reply(200, {"data": [{"id": "any", "created": 17, "max_model_len": 2048}]})
        else:
            self._reply(404, {})

    def do_POST(self) -> None:
        """A generation, or the control."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/control":
            with LOCK:
                STATE.update(json.loads(body))
            self._reply(200, {})
            return
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        with LOCK:
            STATE["requests"].append({"path": self.path, "headers": headers, "bytes": len(body)})
            STATE["active"] += 1
        try:
            self._generate(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            with LOCK:
                STATE["aborted"] += 1
        finally:
            with LOCK:
                STATE["active"] -= 1

    def _generate(self, body: bytes) -> None:
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            request = {}
        mock = request.get("mock", {})
        if STATE["mode"] == "close":
            self._hang_up()
            return
        if STATE["mode"] == "503":
            self._reply(503, {"error": {"message": "from the replica", "type": "x", "param": None, "code": "replica"}})
            return
        self._wait(mock.get("delay", 0))
        if "chunks" in mock:
            self._stream(mock)
            return
        count = len(request["prompt"]) if isinstance(request.get("prompt"), list) else 1
        choices = [{"index": i, "text": f" text {i}"} for i in range(count * request.get("n", 1))]
        usage = {"total_tokens": 3}
        self._reply(200, {"served_by": NAME, "model": request.get("model"), "choices": choices, "usage": usage})

    def _stream(self, mock: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(mock["chunks"]):
            if number == mock.get("die_after"):
                self._hang_up()
                return
            event = f"data: {json.dumps({'number': number, 'sent': time.time()})}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self._wait(mock.get("interval", 0))
        self.wfile.write(b"0\r\n\r\n")

    def _wait(self, seconds: float) -> None:
        """Sleeps, but notices when the other side goes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.connection.settimeout(left)
            try:
                if self.connection.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError
                time.sleep(left)
            except TimeoutError:
                break
        self.connection.settimeout(None)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()  # noqa: S104 - its container's only address
