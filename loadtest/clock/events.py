"""Server-sent events, split from bytes as they come off a socket (WHATWG HTML, section 9.2.6)."""

from collections.abc import Sequence

DONE = b"[DONE]"
"""Data of the event that ends a stream of OpenAI's."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventSplitter:
    """Finds the events of one stream, however the network cut it.

    Works on bytes: a character that is split over two reads is whole again before anything decodes it. The fields
    ``event``, ``id`` and ``retry`` are read over, as are comments: OpenAI's streams say everything in ``data``.
    """

    __slots__ = ("_between_events", "_data", "_rest", "_skip_line_feed", "_started")

    def __init__(self) -> None:
        self._rest = b""
        """The line that is not complete."""
        self._data: list[bytes] = []
        """``data`` lines of the event that is not complete."""
        self._skip_line_feed = False
        """The last read ended in a carriage return: a line feed that comes first now belongs to it."""
        self._started = False
        """It is decided whether a byte order mark is there."""
        self._between_events = False
        """Nothing is pending, so that the next read starts a line and an event."""

    def feed(self, fragment: bytes | bytearray) -> Sequence[bytes | bytearray]:
        """The data of each event that ``fragment`` completes, in order; a data field may be empty."""
        # What servers send nearly always is one event of one line, or several whole ones: two line feeds an event, no
        # carriage return. That is found out in a third of the time that reading lines takes.
        if self._between_events and fragment.startswith(b"data: ") and b"\r" not in fragment:
            if fragment.find(b"\n") == len(fragment) - 2 and fragment.endswith(b"\n"):
                return [fragment[6:-2]]
            if fragment.endswith(b"\n\n"):
                events = fragment[6:-2].split(b"\n\ndata: ")
                if fragment.count(b"\n") == 2 * len(events):
                    return events
        return self._feed_lines(fragment)

    def close(self) -> list[bytes]:
        """The last event, if the stream ended without the blank line that should follow it."""
        events = self._take_lines([self._rest, b""])
        self._rest = b""
        return events

    def _feed_lines(self, fragment: bytes | bytearray) -> list[bytes]:
        text = self._rest + fragment
        if not self._started:
            if len(text) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(text):
                self._rest = text
                return []
            self._started = True
            text = text.removeprefix(_BYTE_ORDER_MARK)
        if self._skip_line_feed and text:
            text = text.removeprefix(b"\n")
            self._skip_line_feed = False
        if b"\r" in text:
            self._skip_line_feed = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        events = self._take_lines(lines)
        self._between_events = not self._rest and not self._data and not self._skip_line_feed
        return events

    def _take_lines(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                self._data.append(b"")
        return events
