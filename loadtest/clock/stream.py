"""The token clock: sends one request over Locust's FastHttpSession and says when each of its tokens came."""

import gc
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
from geventhttpclient.response import HTTPSocketPoolResponse
from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook
from locust.exception import CatchResponseError

from loadtest.clock.answer import StreamedAnswer, read_whole
from loadtest.clock.body import READ_BYTES, BodyReader, Keeper, Sink
from loadtest.clock.failures import AnswerError, no_answer, refusal
from loadtest.clock.observation import Observation, Outcome
from loadtest.workload.steps import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a request may take."""

    connect_seconds: float = 10.0
    total_seconds: float = 600.0
    """From sending to the last byte."""
    between_chunks_seconds: float = 120.0
    """Without a byte, once the body has begun: waiting for the first token is limited by ``total_seconds`` only."""


def session(
    base_url: str,
    *,
    request_event: EventHook,
    concurrency: int,
    timeouts: Timeouts | None = None,
    certificates: Path | None = None,
    insecure: bool = False,
) -> FastHttpSession:
    """A session for any number of greenlets.

    Args:
        base_url: Of the server, without ``/v1``.
        request_event: Locust's ``environment.events.request``.
        concurrency: Requests at once. One more would wait for a connection, and its waiting would look like the
            server's: give more than can ever be in flight.
        timeouts: Only ``connect_seconds`` matters here; the others are TokenClient's.
        certificates: PEM file of authorities, instead of the machine's own.
        insecure: Accepts any certificate.
    """
    limits = timeouts or Timeouts()

    def context(cafile: str | None = None) -> ssl.SSLContext:
        made: ssl.SSLContext = gevent.ssl.create_default_context(cafile=str(certificates) if certificates else cafile)
        return made

    return FastHttpSession(
        base_url.rstrip("/"),
        request_event,
        user=None,
        insecure=insecure,
        ssl_context_factory=None if insecure else context,
        concurrency=concurrency,
        connection_timeout=limits.connect_seconds,
        network_timeout=None,  # the token clock's own limits cost nothing a chunk
        block_size=READ_BYTES,
        headers={"User-Agent": "vllmstack-loadtest"},
    )


def settle() -> None:
    """Takes all that was imported out of the garbage collector's sight: one look at it stops every stream for long.

    For after the start and before the first request.
    """
    gc.collect()
    gc.freeze()


class TokenClient:
    """Sends requests and observes their answers. One is enough for a process: it holds nothing of any request."""

    def __init__(
        self,
        session: FastHttpSession,
        *,
        now: Callable[[], float],
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """``now`` gives the seconds since the run's start, on a monotonic clock."""
        self._session = session
        self._now = now
        self._timeouts = timeouts or Timeouts()
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        agent = session.client
        # An error's body is read here, not turned into an exception that holds it.
        agent.valid_response_codes = frozenset(range(100, 600))  # type: ignore[misc]
        agent.max_redirects = 0
        agent.cookiejar = None  # users share the session: a gateway's cookie must not tie all of them to one replica
        pool = agent.clientpool.get_client(str(session.base_url))._connection_pool
        pool._is_socket_alive = _is_open  # type: ignore[method-assign]

    def send(
        self,
        request: Request,
        *,
        scheduled_at: float,
        begin: Callable[[Observation], None] | None = None,
    ) -> tuple[Observation, str | None]:
        """Sends the request and waits until it is over; raises nothing for what a server or a network does.

        Args:
            request: What to send.
            scheduled_at: When it was due, on the clock of ``now``.
            begin: Is called with the observation when ``sent_at`` is known; its lists grow while the answer comes.

        Returns:
            What was seen, and the answer's text if ``request.keep_text`` is set and the outcome is OK. Locust's
            ``request`` event has been fired once by then: end-to-end time, under the scenario's name, with an
            exception if the request failed.
        """
        observation = Observation(
            scenario=request.scenario,
            model=request.model,
            scheduled_at=scheduled_at,
            session=request.session,
            turn=request.turn,
            expected_prompt_tokens=request.expected_prompt_tokens,
        )
        started = time.time()
        observation.sent_at = self._now()
        if begin is not None:
            begin(observation)
        exchange = _Exchange(request, observation, self._now, self._timeouts)
        text = None
        try:
            text = exchange.run(self._session, {**self._headers, **request.headers})
        except AnswerError as error:
            observation.outcome, observation.error = error.outcome, error.text
        self._session.request_event.fire(
            request_type="POST",
            name=request.scenario,
            response_time=observation.e2e_seconds * 1000,
            response_length=exchange.bytes_read,
            response=None,
            context={},
            exception=CatchResponseError(observation.error) if observation.failed else None,
            start_time=started,
            url=request.path,
        )
        return observation, text


class _Exchange:
    """One request and its answer. Every end but a good one is an AnswerError."""

    def __init__(
        self, request: Request, observation: Observation, now: Callable[[], float], timeouts: Timeouts
    ) -> None:
        self.bytes_read = 0
        self._request = request
        self._observation = observation
        self._now = now
        self._silence_seconds = timeouts.between_chunks_seconds
        self._give_up_at = observation.sent_at + timeouts.total_seconds
        self._give_up = AnswerError(Outcome.TIMED_OUT, "no complete answer within the time limit")
        leaves_after = request.abandon_after_seconds
        if leaves_after is not None and leaves_after < timeouts.total_seconds:
            self._give_up_at = observation.sent_at + leaves_after
            self._give_up = AnswerError(Outcome.ABANDONED, "")

    def run(self, session: FastHttpSession, headers: dict[str, str]) -> str | None:
        """The answer's text, if it was to be kept; fills in the observation."""
        try:
            raw = self._open(session, headers)
        except BaseException:
            self._observation.ended_at = self._now()
            raise
        observation, request = self._observation, self._request
        observation.status = raw.get_code()
        observation.request_id = _header(raw, "x-request-id")
        body = BodyReader(raw, self._now)
        try:
            if observation.status != 200:
                refused = self._read_all(body)
                raise AnswerError(Outcome.REFUSED, refusal(observation.status, raw.status_message or "", refused))
            if not request.streamed:
                text = read_whole(self._read_all(body), observation, path=request.path)
                return text if request.keep_text else None
            return self._stream(body, _header(raw, "content-type").partition(";")[0].strip())
        finally:
            observation.ended_at = body.ended_at
            self.bytes_read = body.bytes_read

    def _stream(self, body: BodyReader, kind: str) -> str | None:
        if kind != "text/event-stream":
            self._read_all(body)
            raise AnswerError(Outcome.INVALID_ANSWER, f"the answer is {kind or 'untyped'}, not a stream of events")
        answer = StreamedAnswer(
            self._observation, path=self._request.path, keep_text=self._request.keep_text, on_done=body.expect_end
        )
        try:
            self._read(body, answer)
            answer.close()
            return answer.judge()
        finally:
            answer.settle()

    def _read_all(self, body: BodyReader) -> bytearray:
        keeper = Keeper()
        self._read(body, keeper)
        return keeper.body

    def _read(self, body: BodyReader, sink: Sink) -> None:
        body.read(sink, until=self._give_up_at, give_up=self._give_up, silence_seconds=self._silence_seconds)

    def _open(self, session: FastHttpSession, headers: dict[str, str]) -> HTTPSocketPoolResponse:
        limit = _LimitReached()
        try:
            with gevent.Timeout(max(self._give_up_at - self._now(), 0.0), limit):
                response = session.request(
                    "POST",
                    self._request.path,
                    data=self._request.body,  # type: ignore[arg-type]  # bytes are what it sends
                    headers=headers,
                    stream=True,
                    catch_response=True,  # the request event is fired when the answer is over
                )
        except _LimitReached:
            raise self._give_up from None
        if response._response is None:
            raise no_answer(vars(response)["error"])
        return response._response


class _LimitReached(BaseException):
    """No Exception, as GreenletExit is none: what lies between must not take it for an error of the network's."""


def _is_open(sock: Any) -> bool:
    """Whether an idle connection can be used: nothing has come, not even its end.

    In place of the pool's own check, whose ``select`` Locust has replaced by gevent's: that lets all other greenlets
    run first, between the moment that is taken for the sending and the sending.
    """
    try:
        sock._sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _header(raw: HTTPSocketPoolResponse, name: str) -> str:
    value = raw.get(name) or ""
    return value if isinstance(value, str) else value[0]
