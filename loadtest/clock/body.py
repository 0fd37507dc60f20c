"""Reads the body of one HTTP answer, and says when each piece of it came."""

import ssl
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Protocol

import gevent
import gevent.event
from geventhttpclient._parser import HTTPResponseParser
from geventhttpclient.response import HTTPSocketPoolResponse

from loadtest.clock.failures import AnswerError, broken
from loadtest.clock.observation import Outcome

READ_BYTES = 65_536
"""All that has come is read at once: one time for all of it. More than a TLS record (16 KiB), so that nothing which is
decrypted already stays behind, where the event loop does not see it."""

_READABLE = 1
_END_OF_MESSAGE_SECONDS = 1.0
"""How long the HTTP message may take to end after its last event; then the connection is given up, not the answer."""
_SILENT = "nothing more came within the time limit between chunks"


class Sink(Protocol):
    """Takes the body, a piece at a time; an AnswerError ends the reading."""

    at: float
    """When the pieces came that are handed over now."""

    def take(self, piece: bytearray) -> None: ...


class Keeper:
    """A Sink that puts the pieces together."""

    def __init__(self) -> None:
        self.at = 0.0
        self.body = bytearray()

    def take(self, piece: bytearray) -> None:
        """Appends it."""
        self.body += piece


class BodyReader:
    """Reads in callbacks of the event loop, while the greenlet sleeps until the body is over.

    A chunk costs no switch of greenlets, no timer and none of geventhttpclient's buffers: its parser, which stays in
    charge of the connection, hands each piece of the body directly to the sink.
    """

    def __init__(self, raw: HTTPSocketPoolResponse, now: Callable[[], float]) -> None:
        """``raw`` has read its headers just now, and with them perhaps a part of the body."""
        self.ended_at = now()
        """The last byte that matters, or the moment of giving up."""
        self.bytes_read = len(raw._body_buffer)
        self._raw = raw
        self._now = now
        self._sink: Sink | None = None
        self._error: Exception | None = None
        self._over = False
        self._end_expected = False
        self._news = gevent.event.Event()
        """The body is over, or its last event came."""
        self._stop_watching: Callable[[], None] | None = None

    def expect_end(self) -> None:
        """The last event has come: nothing that follows is of interest."""
        if self._sink is not None:
            self.ended_at = self._sink.at
        self._end_expected = True
        self._news.set()

    def read(self, sink: Sink, *, until: float, give_up: AnswerError, silence_seconds: float) -> None:
        """Reads to the end. The connection then goes back to its pool, or is closed if the message is not complete.

        Args:
            sink: Gets the pieces.
            until: When to give up, on the clock of ``now``.
            give_up: What to raise then.
            silence_seconds: The longest time from one byte of the body to the next; the first has until ``until``.

        Raises:
            AnswerError: it gave up, the connection broke, or the sink raised it.
        """
        self._sink = sink
        sink.at = self.ended_at
        try:
            self._start(sink)
            while not self._over:
                now = self._now()
                patience = _END_OF_MESSAGE_SECONDS if self._end_expected else silence_seconds
                wait_until = min(until, (sink.at if self.bytes_read else now) + patience)
                if wait_until <= now:
                    break
                self._news.wait(wait_until - now)
                self._news.clear()
        finally:
            self._stop()
            self._raw.release()
            self._let_go()
        if self._end_expected:
            return
        self.ended_at = sink.at if self._over else self._now()
        if isinstance(self._error, OSError | HTTPException):
            raise broken(self._error) from self._error
        if self._error is not None:
            raise self._error
        if not self._over:
            raise give_up if self.ended_at >= until else AnswerError(Outcome.TIMED_OUT, _SILENT)

    def _start(self, sink: Sink) -> None:
        raw = self._raw
        try:
            if raw._body_buffer:
                sink.take(raw._body_buffer)
        except AnswerError as error:
            self._end(error)
        if raw._sock is None:  # the message is complete already
            self._end()
        if not self._over:
            raw._on_body = sink.take  # type: ignore[assignment, method-assign]
            raw._on_message_complete = self._complete  # type: ignore[method-assign]
            self._watch(raw._sock, sink)

    def _watch(self, sock: Any, sink: Sink) -> None:
        """Has the event loop call ``readable`` whenever bytes have come. Local names: it runs for every chunk."""
        now = self._now
        parse = HTTPResponseParser.feed.__get__(self._raw)
        receive = sock.recv

        def readable() -> None:
            try:
                data = receive(READ_BYTES)
                sink.at = now()
                self.bytes_read += len(data)
                parse(data)
                if not data:
                    self._end()
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except Exception as error:  # what is raised in a callback would be lost
                self._end(error)

        timeout = sock.gettimeout()
        watcher = gevent.get_hub().loop.io(sock.fileno(), _READABLE)

        def stop() -> None:
            watcher.stop()
            watcher.close()
            sock.settimeout(timeout)

        self._stop_watching = stop
        sock.settimeout(0.0)  # a callback must not wait
        watcher.start(readable)

    def _complete(self) -> None:
        """The parser saw the message's end: the connection goes back to its pool, and must not be watched there."""
        self._end()
        HTTPSocketPoolResponse._on_message_complete(self._raw)

    def _end(self, error: Exception | None = None) -> None:
        self._error = self._error or error
        self._over = True
        self._stop()
        self._news.set()

    def _stop(self) -> None:
        stop, self._stop_watching = self._stop_watching, None
        if stop is not None:
            stop()

    def _let_go(self) -> None:
        """Without cycles of references all memory goes at once, and the garbage collector makes no pause for it."""
        self._sink = None
        for name in ("_on_body", "_on_message_complete"):
            vars(self._raw).pop(name, None)
