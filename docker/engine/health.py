"""The engines' health check: runs inside the container, with nothing but Python's standard library.

    python3 health.py            exit 0: serving; 1: not. Prints one word and why: `loading`, `serving`, `broken`.
    python3 health.py metrics    prints /metrics as it is
    python3 health.py warm MODEL one token from the model: the first request pays for what vLLM does lazily (0.5 s)

Docker keeps the printed line, so `vllmstack status` can tell an engine that still loads its weights (nothing listens
yet, and nothing ever did since the container started) from one that answered before and does not any more.

It is the watchdog, too. Compose marks an unhealthy container and leaves it at that, and what restarts one from outside
needs Docker's socket, which is root on the host. Here the check, which Docker runs inside the container every 5 s, ends
every process of an engine that hangs; Docker's `restart: unless-stopped` does the rest. It does so when, for
VLLMSTACK_HUNG_SECONDS (`health.hung_seconds`), an engine that has answered before

- leaves /health unanswered, or answers it with an error, or
- has requests and gets on with none of them, nor with one of the check's own. Requests are those of vLLM's gauges and
  connections that have been open since before: an engine that hangs in its first step has told of none.

What is only slow is left alone. All of these count as getting on: any counter or gauge that an engine's step changes
(a prefill in chunks moves the KV cache's), a compiler that runs, and on a CPU, where one step may take a minute, time
that its processes compute (ten times as long, not for ever: a lock can spin). The very first request has 300 s. An
engine that loads has not answered yet; one that drains says so on /health, or has closed its port, and has its drain's
time.
"""

import dataclasses
import http.client
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import evidence

PORT = 8000
ANSWER_SECONDS = 4.0
METRICS_SECONDS = 2.0
TOKEN_SECONDS = 3.0  # with the two above it is less than the 10 s that Docker gives a check
WARM_SECONDS = 100.0  # below the 120 s that vllmstack's Docker client waits
FIRST_REQUEST_SECONDS = 300.0
COMPUTING_FACTOR = 10
COMPUTING_SHARE = 0.25  # of a core
CLOSING_SECONDS = 15.0  # beyond the drain, as Docker's own patience is (GRACE_SECONDS of vllmstack/render/engines.py)
ENDING = b"ending"  # HEALTH of middleware/vllmstack_ending.py
CLEARED_SECONDS = 600.0
FORGOTTEN_SECONDS = 60.0  # after a longer pause (of the daemon, of the container) nothing is concluded from before
# /tmp is a tmpfs: what is in it lasts as long as the container's current run.
MEMORY = Path("/tmp/.vllmstack-health")  # noqa: S108 - private to the container
MEMORY_BYTES = 65536
CONFIG = Path("/etc/vllmstack/engine.yaml")


@dataclasses.dataclass(kw_only=True)
class Memory:
    """What one check leaves for the next; times are of the monotonic clock."""

    checked: float = 0.0
    served: bool = False
    failing: float | None = None
    """Since when /health has not said 200."""
    moved: float = 0.0
    """When the engine last did anything, or had nothing to do."""
    seen: str = ""
    """The metrics that a step changes."""
    computed: float = 0.0
    """CPU seconds of all processes, when the clock of `failing` or `moved` began."""
    peers: dict[str, float] = dataclasses.field(default_factory=dict)
    """Connections and when they were first seen."""
    cleared: str = ""
    """What looked like waiting requests when the engine last gave a token after all."""
    cleared_at: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How long what may last."""

    hung: float
    closing: float
    """Of an engine that ends, or whose port is closed: it may be draining."""
    on_cpu: bool

    def patience(self, *, seconds: float, computed: float, first: bool = False) -> float:
        """The limit for an engine that has stood for ``seconds``, in which its processes have used ``computed``."""
        limit = max(self.hung, FIRST_REQUEST_SECONDS) if first else self.hung
        computing = self.on_cpu and seconds > 0 and computed / seconds >= COMPUTING_SHARE
        return limit * COMPUTING_FACTOR if computing else limit


def ask(method: str, path: str, body: object = None, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """Status and body of one request; raises OSError or HTTPException if the engine does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=seconds)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check(memory: Memory, limits: Limits) -> tuple[str, str, str | None]:
    """One of the three words, the reason, and why the engine must end, if it must."""
    now = time.monotonic()
    if now - memory.checked > FORGOTTEN_SECONDS:
        memory.failing, memory.moved, memory.seen = None, now, ""
    memory.checked = now
    try:
        status, body = ask("GET", "/health")
    except (OSError, http.client.HTTPException) as error:
        if not memory.served:
            return "loading", "not listening yet", None
        limit = limits.closing if isinstance(error, ConnectionRefusedError) else None
        return failing(memory, limits, f"answered before, and now: {error}", now=now, limit=limit)
    if status != http.client.OK and body == ENDING:
        fact = "it ends what it has begun, and takes nothing new"
        return failing(memory, limits, fact, now=now, limit=limits.closing)
    if status != http.client.OK:
        return failing(memory, limits, f"/health says {status}", now=now)
    if memory.failing is not None or not memory.served:
        memory.served, memory.failing, memory.moved, memory.seen = True, None, now, ""
    return progress(memory, limits, now)


def failing(
    memory: Memory, limits: Limits, fact: str, *, now: float, limit: float | None = None
) -> tuple[str, str, str | None]:
    """Of an engine whose /health is not 200."""
    if memory.failing is None:
        memory.failing, memory.computed = now, evidence.computed_seconds()
    lasted = time.monotonic() - memory.failing
    limit = limit or limits.patience(seconds=lasted, computed=evidence.computed_seconds() - memory.computed)
    too_long = memory.served and lasted >= limit
    return "broken", f"{fact} ({lasted:.0f} s)", f"{fact} for {lasted:.0f} s" if too_long else None


def progress(memory: Memory, limits: Limits, now: float) -> tuple[str, str, str | None]:
    """Of an engine whose /health is 200."""
    serving = "serving", "/health says 200", None
    memory.peers = evidence.connections(PORT, memory.peers, now)
    waiting = sorted(peer for peer, since in memory.peers.items() if since < now)
    try:
        status, body = ask("GET", "/metrics", seconds=METRICS_SECONDS)
    except (OSError, http.client.HTTPException):
        status, body = 0, b""
    if status != http.client.OK:  # not known: neither idle nor hung
        memory.moved = now
        return serving
    values, model = evidence.read_metrics(body.decode(errors="replace"))
    seen = " ".join(map(str, values))
    if seen != memory.seen or not (values[0] + values[1] or waiting) or evidence.compiles():
        memory.moved, memory.seen, memory.computed = now, seen, evidence.computed_seconds()
        return serving
    # A gauge that stands, a client that does not read, or who only scrapes, is no proof: one token is.
    suspicion = f"{values[0]:.0f} running, {values[1]:.0f} waiting, connections {' '.join(waiting)}"
    cleared = suspicion == memory.cleared and now - memory.cleared_at < CLEARED_SECONDS
    if now - memory.moved < limits.hung / 2 or cleared:
        return serving
    if gives_a_token(model):
        memory.moved, memory.cleared, memory.cleared_at = now, suspicion, now
        return serving
    still = time.monotonic() - memory.moved
    first = values[2] + values[3] == 0
    limit = limits.patience(seconds=still, computed=evidence.computed_seconds() - memory.computed, first=first)
    fact = (
        f"it has requests ({values[0]:.0f} running, {values[1]:.0f} waiting, {len(waiting)} connections) and has made "
        f"no step for {still:.0f} s"
    )
    return ("broken", f"{fact}; it has {limit:.0f} s", None) if still < limit else ("broken", fact, fact)


def gives_a_token(model: str) -> bool:
    """Whether it completes or embeds a word; True for one that does neither (a reranker): nothing is known then."""
    requests = (
        ("/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 1}),
        ("/v1/embeddings", {"model": model, "input": "Hello"}),
    )
    status = 0
    for path, body in requests:
        try:
            status, _ = ask("POST", path, body, TOKEN_SECONDS)
        except (OSError, http.client.HTTPException):
            return False
        if not 400 <= status < 500:
            break
    return status < 500


def end(reason: str) -> None:
    """Ends the container: every process but its init, which ends when vLLM has; Docker then starts it again."""
    line = f"health.py: ending this engine, Docker starts it again: {reason}\n"
    for target in ("/proc/1/fd/2", "/dev/stdout"):  # the container's log, and what Docker keeps of the check
        try:
            with Path(target).open("a") as stream:
                stream.write(line)
        except OSError:
            continue
    # Init may have been stopped with the rest; SIGTERM is for a container without one, whose first process is vLLM.
    for process, number in ((1, signal.SIGCONT), (-1, signal.SIGKILL), (1, signal.SIGTERM)):
        try:
            os.kill(process, number)
        except OSError:
            continue


def remember() -> Memory:
    """What the last check of this run left."""
    try:
        return Memory(**json.loads(MEMORY.read_text().rstrip("\0")))
    except (OSError, ValueError, TypeError):
        return Memory()


def keep(memory: Memory) -> None:
    """For the next check. The file has its size from the first time on: a /tmp that has filled up does not matter."""
    text = json.dumps(dataclasses.asdict(memory)).encode()
    try:
        descriptor = os.open(MEMORY, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size == 0:
                os.posix_fallocate(descriptor, 0, MEMORY_BYTES)
            os.pwrite(descriptor, text.ljust(MEMORY_BYTES, b"\0"), 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        print(f"nothing can be kept in {MEMORY}: {error}")


def limits() -> Limits:
    """As the deployment has them."""
    try:
        found = re.search(r"^shutdown-timeout: (\d+)$", CONFIG.read_text(), re.MULTILINE)
    except OSError:
        found = None
    hung = float(os.environ.get("VLLMSTACK_HUNG_SECONDS") or 20)
    drain = float(found[1]) if found else 0.0
    on_cpu = "VLLM_CPU_OMP_THREADS_BIND" in os.environ
    return Limits(hung=hung, closing=hung + drain + CLOSING_SECONDS, on_cpu=on_cpu)


def warm(model: str) -> tuple[int, bytes]:
    """The last answer: a chat, or a completion from a model without a chat template."""
    common = {"model": model, "max_tokens": 1}
    chat = common | {"messages": [{"role": "user", "content": "Hello"}]}
    status, body = ask("POST", "/v1/chat/completions", chat, WARM_SECONDS)
    if status == 200:  # streaming has lazy parts of its own
        status, body = ask("POST", "/v1/chat/completions", chat | {"stream": True}, WARM_SECONDS)
    elif 400 <= status < 500:
        status, body = ask("POST", "/v1/completions", common | {"prompt": "Hello"}, WARM_SECONDS)
    return status, body


def main(arguments: list[str]) -> int:
    if arguments == ["metrics"]:
        try:
            status, body = ask("GET", "/metrics")
        except (OSError, http.client.HTTPException):
            return 1
        sys.stdout.buffer.write(body)
        return 0 if status == 200 else 1
    if arguments[:1] == ["warm"]:
        try:
            status, body = warm(arguments[1])
        except (OSError, http.client.HTTPException) as error:
            print(f"no answer: {error}")
            return 1
        print(status, body[:300].decode(errors="replace"))
        # An embedding model has neither endpoint, and says so with a 4xx: it answers, which is what counts.
        return 0 if status < 500 else 1
    memory = remember()
    word, reason, fatal = check(memory, limits())
    keep(memory)
    print(f"{word}: {reason}", flush=True)
    if fatal:
        end(fatal)
    return 0 if word == "serving" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
