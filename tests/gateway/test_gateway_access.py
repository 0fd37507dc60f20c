"""Limits, TLS, the log, the metrics and hostile input."""

import json
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import docker
import docker.errors
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.attempts import attempts
from tests.gateway.containers import GATEWAY_IMAGE, GatewayContainer, Replica, eventually

CHAT = "/v1/chat/completions"
StartGateway = Callable[..., GatewayContainer]


def test_one_address_has_a_limited_number_of_connections(start_gateway: StartGateway) -> None:
    gateway = start_gateway(connections=3)
    with gateway.client() as client, ThreadPoolExecutor(6) as pool:
        for attempt in attempts():
            asked = [pool.submit(client.post, CHAT, json={"model": "smoke", "mock": {"delay": 0.5}}) for _ in range(6)]
            replies = [reply.result() for reply in asked]
            with attempt:  # the last has come while the first still runs
                assert sorted(reply.status_code for reply in replies) == [200] * 3 + [429] * 3
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_413(start_gateway: StartGateway, chunked: bool) -> None:
    gateway = start_gateway(body_limit_mib=1)
    content = json.dumps({"model": "smoke", "prompt": "x" * 1_100_000}).encode()
    reply = gateway.client().post(CHAT, content=iter([content]) if chunked else content)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=gateway", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return {"tls_certificate": cert.read_text(), "tls_key": key.read_text()}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_tls_speaks_1_2_and_1_3_and_http_2_and_tells_plain_http_so(
    start_gateway: StartGateway, certificate: dict[str, str]
) -> None:
    gateway = start_gateway(tls={"certificate": "c", "key": "k"}, secrets=certificate)

    def handshake(version: ssl.TLSVersion) -> tuple[str | None, str | None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection((gateway.host, gateway.port), 5) as raw, context.wrap_socket(raw) as secured:
            return secured.version(), secured.selected_alpn_protocol()

    assert handshake(ssl.TLSVersion.TLSv1_3) == ("TLSv1.3", "h2")
    assert handshake(ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", "h2")
    with pytest.raises(ssl.SSLError):
        handshake(ssl.TLSVersion.TLSv1_1)
    assert gateway.client().post(CHAT, json={"model": "smoke"}).status_code == 200
    plain = httpx2.get(f"http://{gateway.host}:{gateway.port}/health")
    assert (plain.status_code, plain.json()["error"]["code"]) == (400, "https_required")


def http2_answer(gateway: GatewayContainer, headers: dict[str, str]) -> bytes:
    """The data of the answer to one HTTP/2 request whose body is never sent."""
    # RFC 9113 frames (length, type, flags, stream) and RFC 7541 literal fields without indexing or Huffman.
    fields = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    settings = bytes(3) + b"\x04" + bytes(5)
    head = len(fields).to_bytes(3, "big") + b"\x01\x04\0\0\0\x01" + fields
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    data = b""
    with socket.create_connection((gateway.host, gateway.port), 5) as raw, context.wrap_socket(raw) as secured:
        secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + head)
        stream = secured.makefile("rb")
        while frame := stream.read(9):
            payload = stream.read(int.from_bytes(frame[:3], "big"))
            if frame[3] == 0:
                data += payload
                if frame[4] & 1:
                    break
    return data


def test_over_http_2_a_body_over_the_limit_is_told_in_json_too(
    start_gateway: StartGateway, certificate: dict[str, str]
) -> None:
    gateway = start_gateway(tls={"certificate": "c", "key": "k"}, secrets=certificate)
    headers = {":method": "POST", ":scheme": "https", ":path": CHAT, ":authority": "x", "content-length": "99999999"}
    assert json.loads(http2_answer(gateway, headers))["error"]["code"] == "request_too_large"


def exchange(gateway: GatewayContainer, request: bytes) -> bytes:
    """Everything that comes back until the gateway closes, or nothing more comes."""
    with socket.create_connection((gateway.host, gateway.port), 5) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while True:
                # A whole answer may be the last one; the rest of one is waited for, however slow the machine is.
                connection.settimeout(0.3 if is_whole(answer) else 20)
                if not (received := connection.recv(65536)):
                    return answer
                answer += received
        except (TimeoutError, ConnectionResetError):
            return answer


def is_whole(answer: bytes) -> bool:
    """Whether it has as many bytes as it says."""
    head, _, content = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    return length is not None and len(content) >= int(length[1])


INNER = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 23\r\n\r\n" + b'{"model":"org/Other:1"}'


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: a\x00b\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 99\r\n\r\nx", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + INNER, 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
            400,
        ),
        (b"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER, 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_broken_http_and_smuggling_get_one_error_and_reach_no_engine(
    gateway: GatewayContainer, replicas: dict[str, Replica], request_bytes: bytes, status: int
) -> None:
    answer = exchange(gateway, request_bytes)
    head, _, content = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
    assert all(not replica.seen()["requests"] for replica in replicas.values())
    assert gateway.client().get("/health").status_code == 200


def test_the_log_has_one_json_line_a_request_with_what_operations_need(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    client = gateway.client()
    answers = [
        client.post(f"{CHAT}?secret=1", json={"model": "org/Other:1"}, headers={"X-Request-Id": "one"}),
        client.post(CHAT, json={"model": "none"}, headers={"X-Request-Id": "two"}),
        client.get('/no/"such?x', headers={"X-Request-Id": "three"}),
    ]
    client.get("/health")
    one, two, three = gateway.logged(*answers)
    assert len(gateway.requests_logged()) == 3
    assert one["request_id"] == "one"
    assert (one["model"], one["replica"]) == ("org/Other:1", "engine-org-other-1-1")
    assert (one["method"], one["path"], one["status"], one["tries"]) == ("POST", CHAT, 200, 1)
    times = [float(one[f"{name}_seconds"]) for name in ("upstream_header", "upstream_response", "request")]
    assert 0 <= times[0] <= times[1] <= times[2] + 0.01
    assert (two["model"], two["status"], two["tries"]) == ("", 404, 0)
    assert (three["method"], three["path"], three["status"]) == ("GET", "/no/%22such", 404)


def test_metrics_are_prometheus_text_and_their_labels_are_bounded(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    with gateway.client() as client:
        for number in range(30):
            client.post(CHAT, json={"model": f"made-up-{number}"})
            client.get(f"/made/up/{number}")
        for _ in range(3):
            client.post(CHAT, json={"model": "org/Other:1"})
        gateway.logged(client.post("/generate", json={"model": "org/Other:1", "prompt": "x"}))

    def counted() -> list[float]:
        metrics, other = gateway.metrics(), 'model="org/Other:1",replica="engine-org-other-1-1",key="",code="200"'
        return [metrics[f"requests_total{{{of}}}"] for of in (other, 'model="none",replica="none",key="",code="404"')]

    # Each of the two workers counts what it has answered after the client has it.
    eventually(lambda: counted() == [4, 60])
    metrics = gateway.metrics()
    assert metrics['request_duration_seconds_count{model="org/Other:1"}'] == 4
    assert metrics['first_byte_seconds_bucket{model="org/Other:1",le="+Inf"}'] == 4
    text = httpx2.get(gateway.metrics_url).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name for name in families if families[name].documentation} == set(families)
    assert not [sample for family in families.values() for sample in family.samples if "made" in str(sample.labels)]


def test_the_health_check_in_the_image_tells_a_stopped_nginx(gateway: GatewayContainer) -> None:
    assert gateway.container.exec_run("/usr/local/bin/gateway-health").exit_code == 0
    assert gateway.container.exec_run(["nginx", "-e", "stderr", "-t"]).exit_code == 0


def test_the_master_and_its_workers_run_without_any_privilege(gateway: GatewayContainer) -> None:
    status = gateway.container.exec_run(["cat", "/proc/1/status"]).output
    assert isinstance(status, bytes)
    fields = dict(line.split(":\t", 1) for line in status.decode().splitlines())
    assert fields["Uid"].split() == ["33"] * 4
    assert (fields["CapEff"], fields["CapBnd"], fields["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")


def test_a_directory_that_was_not_rendered_stops_the_start_with_its_name(engine: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ContainerError, match="/etc/vllmstack/gateway/"):
        engine.containers.run(GATEWAY_IMAGE, remove=True)
