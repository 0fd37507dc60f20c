"""An engine's HTTP surface whose failures are chosen by the test.

A request's own ``mock`` field decides about that request: ``delay`` (seconds before the header), ``chunks`` and
``interval`` (a stream of events), ``die_after`` (events until the connection is closed), ``usage`` (told at the end, as
vLLM tells it), ``continuous`` (usage with every event), ``split`` (bytes written at a time), ``bytes`` (how much an
answer has). ``POST /control`` decides about all that follow: ``mode`` is ``ok``, ``503``, ``close`` (before any byte)
or ``echo`` (an answer that tells the request as it came, whatever its body is); ``health`` is a status, 0 for none;
``refuse`` closes the port for so many seconds, after which it is healthy, while what it was asked before goes on;
``stuck`` makes the gateway's own requests for a token wait, ``embeds`` refuses all but embeddings of them; ``metrics``
are an engine's, by name; ``start`` is when its process began. ``GET /control`` tells what was seen: ``requests``,
without the gateway's own, of which ``tokens`` were answered.
"""

import base64
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = socket.gethostname()
LOCK = threading.Lock()
STATE: dict[str, Any] = {
    "mode": "ok", "health": 200, "stuck": False, "embeds": False, "refuse": 0, "metrics": {},
    "start": time.time(), "requests": [], "tokens": 0, "aborted": 0, "active": 0,
}  # fmt: skip
PROBE = "vllmstack-health"
"""The request id of what the gateway asks on its own account."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """Head and body of an answer leave together: who is killed has sent both or neither, but in a stream."""

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def _reply(self, status: int, body: object) -> None:
        self._send(status, "application/json", json.dumps(body, separators=(",", ":")).encode())  # as vLLM writes it

    def _send(self, status: int, kind: str, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()

    def do_GET(self) -> None:
        """Health, model list and what was seen."""
        if self.path == "/health":
            while STATE["health"] == 0:
                time.sleep(0.05)
            self._reply(STATE["health"], {})
        elif self.path == "/metrics":
            self._send(200, "text/plain", metrics().encode())
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
            told = json.loads(body)
            with LOCK:
                STATE.update(told)
            if "refuse" in told:
                self.server.shutdown()
                self.server.server_close()
            self._reply(200, {})
            return
        if self.headers.get("X-Request-Id") == PROBE:
            self._token()
            return
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        with LOCK:
            STATE["requests"].append({"path": self.path, "headers": headers, "bytes": len(body)})
            STATE["active"] += 1
        try:
            if STATE["mode"] == "echo":
                self._echo(headers, body)
            else:
                self._generate(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            with LOCK:
                STATE["aborted"] += 1
        finally:
            with LOCK:
                STATE["active"] -= 1

    def _echo(self, headers: list[list[str]], body: bytes) -> None:
        """What came, in the place of a completion's text, where the gateway's older API shows it too."""
        came = {"path": self.path, "headers": headers, "body": base64.b64encode(body).decode()}
        usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        self._reply(200, {"model": NAME, "choices": [{"index": 0, "text": json.dumps(came)}], "usage": usage})

    def _token(self) -> None:
        while STATE["stuck"]:
            self._wait(0.05)
        fine = STATE["mode"] in ("ok", "echo")
        if not fine or (STATE["embeds"] and self.path != "/v1/embeddings"):
            self._reply(404 if fine else 503, {})
            return
        with LOCK:
            STATE["tokens"] += 1
        self._reply(200, {"choices": [{"index": 0, "text": "a"}]})

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
        usage = mock.get("usage") or {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        choices[0]["text"] += "." * mock.get("bytes", 0)
        self._reply(200, {"served_by": NAME, "model": request.get("model"), "choices": choices, "usage": usage})

    def _stream(self, mock: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for number in range(mock["chunks"]):
            if number == mock.get("die_after"):
                self._hang_up()
                return
            event = {"number": number, "sent": time.time(), "choices": [{"index": 0, "text": f"{{{number}"}]}
            told = {"usage": mock["usage"]} if mock.get("continuous") else {}
            self._event(json.dumps(event | told, separators=(",", ":")), mock)
            self._wait(mock.get("interval", 0))
        if "usage" in mock:
            self._event(json.dumps({"choices": [], "usage": mock["usage"]}, separators=(",", ":")), mock)
            self._event("[DONE]", mock)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _event(self, data: str, mock: dict[str, Any]) -> None:
        event = f"data: {data}\n\n".encode()
        size = mock.get("split") or len(event)
        for start in range(0, len(event), size):
            part = event[start : start + size]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
            if size < len(event):
                time.sleep(0.002)  # so that the parts are read apart

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


def metrics() -> str:
    """As vLLM writes them, beside as many others."""
    others = "".join(f'vllm:other_{number}_total{{engine="0",model_name="any"}} 0.0\n' for number in range(1200))
    defaults = {"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0, "vllm:generation_tokens_total": 0.0}
    series = "".join(
        f'# TYPE {name} gauge\n{name}{{engine="0",model_name="any"}} {value}\n'
        for name, value in (defaults | STATE["metrics"]).items()
    )
    return f"# HELP process_start_time_seconds x\nprocess_start_time_seconds {STATE['start']}\n{others}{series}"


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    while True:
        server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler)  # noqa: S104 - its container's only address
        server.serve_forever(poll_interval=0.05)  # until a `refuse` has closed the port
        time.sleep(STATE["refuse"])
        STATE["health"] = 200
