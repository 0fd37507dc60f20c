"""A hub on this machine: what huggingface_hub asks of huggingface.co, over real HTTP, with faults on request.

Only the standard library, so that a container can run it too: ``python hub_server.py PORT URL ORG/NAME=FOLDER…``.
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 10_000
"""From here on a file is kept as a large one: its digest is a SHA-256, and it comes from another address."""


@dataclass(kw_only=True)
class Repository:
    """A model on the hub; by revision its files, the first revision being ``main``."""

    files: dict[str, bytes]
    commit: str = "1" * 40
    revisions: dict[str, str] = field(default_factory=dict)
    """Commit by branch or tag, beside ``main``."""
    gated: bool = False
    private: bool = False
    tokens: tuple[str, ...] = ("hf_good",)
    """Of those who have access."""


@dataclass(kw_only=True)
class HubServer:
    """The hub. What a test changes here counts from the next request on."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """By file: for each of the next answers the bytes after which the connection ends."""
    spoiled: dict[str, bytes] = field(default_factory=dict)
    """By file: what is sent instead of its content, of the same length."""
    ignores_range: bool = False
    tells_length: bool = True
    """Else the end of a body is where the connection ends."""
    address_is_good_for: int = 0
    """Downloads from an address of the content network, before it is too old; 0: any number."""
    content_status: int = 0
    """The content network answers everything with it; 0: as it should be."""
    refuses_beyond_the_end: bool = False
    """By 416, as most servers; else what is sent from there on is empty."""
    addresses: dict[str, int] = field(default_factory=dict)
    """Downloads by address that was given out."""
    bytes_per_second: float = 0
    """0: as fast as can be."""
    status: int = 0
    """Every request is answered with it; 0: as it should be."""
    is_a_hub: bool = True
    requests: list[str] = field(default_factory=list)
    """``METHOD /path [range]`` of each request, in order."""
    authorizations: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def downloads(self, name: str = "") -> list[str]:
        """Requests for the content of files whose path ends so."""
        return [one for one in self.requests if one.startswith("GET") and "/api/" not in one and name in one]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range", "")
        self.hub.requests.append(f"{self.command} {path} {asked}".rstrip())
        self.hub.authorizations.append((path, self.headers.get("Authorization")))
        if self.hub.status:
            self._send(self.hub.status, b"no\n", {})
        elif not self.hub.is_a_hub:
            self._send(200, b"<html>welcome to the coffee shop</html>", {"Content-Type": "text/html"})
        elif path.startswith("/api/models/"):
            self._info(*path.removeprefix("/api/models/").partition("/revision/")[::2])
        elif path.startswith("/cdn/"):
            self._large(path.removeprefix("/cdn/"))
        elif "/resolve/" in path:
            hub, _, rest = path[1:].partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(hub, revision, name)
        else:
            self._send(404, b"", {})

    def _repository(self, hub: str, revision: str) -> Repository | None:
        """The repository, if who asks may see it; else the answer is sent."""
        one = self.hub.repositories.get(hub)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and not token.startswith("hf_"):
            self._send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif one is None or (one.private and token not in one.tokens):
            code = 404 if token else 401
            self._send(code, b"", {"X-Error-Code": "RepoNotFound"} if token else {})
        elif revision not in ("main", one.commit, *one.revisions, *one.revisions.values()):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return one
        return None

    def _info(self, hub: str, revision: str) -> None:
        one = self._repository(hub, revision or "main")
        if one is None:
            return
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": git_blob(content)}
            | (
                {"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 134}}
                if len(content) >= LARGE_BYTES
                else {}
            )
            for name, content in one.files.items()
        ]
        commit = one.revisions.get(revision, one.commit)
        self._send(200, json.dumps({"_id": "1", "id": hub, "sha": commit, "siblings": siblings}).encode(), {})

    def _file(self, hub: str, revision: str, name: str) -> None:
        one = self._repository(hub, revision)
        if one is None:
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if one.gated and token not in one.tokens:
            self._send(403 if token else 401, b"", {"X-Error-Code": "GatedRepo"})
        elif name not in one.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": one.commit})
        elif len(one.files[name]) >= LARGE_BYTES:
            digest, size = sha256(one.files[name]), str(len(one.files[name]))
            # By name, so that it is another host than the hub's, as a content network is.
            signature = str(len(self.hub.addresses))
            self.hub.addresses[signature] = 0
            place = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{hub}/{name}?signature={signature}"
            links = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": size, "X-Repo-Commit": one.commit}
            self._send(302, b"", {**links, "Location": place})
        else:
            headers = {"X-Repo-Commit": one.commit, "ETag": f'"{git_blob(one.files[name])}"'}
            self._content(name, one.files[name], headers)

    def _large(self, place: str) -> None:
        organisation, model, name = place.split("/", 2)
        content = self.hub.repositories[f"{organisation}/{model}"].files[name]
        signature = urlsplit(self.path).query.removeprefix("signature=")
        self.hub.addresses[signature] += 1
        if self.hub.content_status:
            self._send(self.hub.content_status, b"no\n", {})
            return
        if self.hub.address_is_good_for and self.hub.addresses[signature] > self.hub.address_is_good_for:
            self._send(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", {})
            return
        self._content(name, content, {"ETag": f'"{sha256(content)}"'})

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        content = self.hub.spoiled.get(name, content)
        status, begin = 200, 0
        if (asked := self.headers.get("Range")) and not self.hub.ignores_range:
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
            if begin >= len(content) and self.hub.refuses_beyond_the_end:
                self._send(416, b"", {})
                return
            headers |= {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            status = 206
        cuts = self.hub.cut_after.get(name)
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        self._send(status, content[begin:], headers, cut=cut)

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if self.hub.tells_length or self.command == "HEAD" or status not in (200, 206):
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        body = body[:cut]
        step = max(1, int(self.hub.bytes_per_second / 20)) if self.hub.bytes_per_second else max(1, len(body))
        for begin in range(0, len(body), step):
            self.wfile.write(body[begin : begin + step])
            if self.hub.bytes_per_second:
                time.sleep(0.05)
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def read_repository(folder: Path) -> Repository:
    """A folder of this machine as a repository."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return Repository(files=files)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is none of this hub's errors."""


@contextmanager
def serving(hub: HubServer, address: str = "127.0.0.1", port: int = 0) -> Iterator[HubServer]:
    """The hub, reachable at its ``url``."""
    server = _Server((address, port), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = hub.url or f"http://{address}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    port, url, *models = sys.argv[1:]
    pairs = (model.partition("=") for model in models)
    own = HubServer(repositories={name: read_repository(Path(folder)) for name, _, folder in pairs}, url=url)
    with serving(own, "0.0.0.0", int(port)):  # noqa: S104 - inside a container
        threading.Event().wait()
