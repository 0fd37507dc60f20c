"""Server-sent events, however they are cut."""

import pytest

from loadtest.clock.events import DONE, EventSplitter


def split(*fragments: bytes) -> list[bytes]:
    splitter = EventSplitter()
    events = [bytes(event) for fragment in fragments for event in splitter.feed(fragment)]
    return events + splitter.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_of_the_three_line_ends_is_one(end: bytes) -> None:
    stream = b"data: one" + end + end + b"data: two" + end + b"data: lines" + end + end
    assert split(stream) == [b"one", b"two\nlines"]


def test_several_events_of_one_read_come_apart() -> None:
    assert split(b"data: 0\n\n", b"data: 1\n\ndata: 2\n\ndata: 3\n\n") == [b"0", b"1", b"2", b"3"]


STREAM = (
    b"\xef\xbb\xbf: a comment\r\n\r\nevent: message\ndata: {\"text\":\n"
    b"data: \"gr\xc3\xbc\xc3\x9fe \xf0\x9f\x9a\x80\"}\nid: 7\nretry: 10\n\n: ping\n\ndata:no blank\r\rdata\n\n"
    b"dataset: no field\n\ndata: [DONE]\n\n"
)  # fmt: skip
EVENTS = ['{"text":\n"grüße 🚀"}'.encode(), b"no blank", b"", DONE]


def test_comments_and_other_fields_are_read_over() -> None:
    assert split(STREAM) == EVENTS


def test_a_cut_anywhere_changes_nothing() -> None:
    for first in range(len(STREAM)):
        for second in range(first, len(STREAM), 7):
            assert split(STREAM[:first], STREAM[first:second], STREAM[second:]) == EVENTS, (first, second)


def test_bytes_one_at_a_time_change_nothing() -> None:
    assert split(*(STREAM[place : place + 1] for place in range(len(STREAM)))) == EVENTS


def test_whole_events_after_half_ones_are_found() -> None:
    fragments = [b"data: 0\n\n", b"data: 1\n", b"\ndata: 2\n\n", b"data: 3\n\n", b"dat", b"a: 4\n\n", b"data: 5\n\n"]
    assert split(*fragments) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_whole_looking_read_with_another_field_inside_is_read_by_lines() -> None:
    assert split(b"data: 0\n\n", b"data: 1\nid: 7\n\n", b"data: 2\n\n: ping\n\n") == [b"0", b"1", b"2"]


def test_a_whole_looking_read_with_two_data_lines_is_one_event() -> None:
    assert split(b"data: 0\n\n", b"data: 1\ndata: 2\n\n") == [b"0", b"1\n2"]


def test_a_carriage_return_inside_a_whole_looking_read_ends_a_line() -> None:
    assert split(b"data: 0\n\n", b"data: 1\rdata: 2\n\n") == [b"0", b"1\n2"]


def test_an_event_is_known_at_once_although_its_line_feed_comes_later() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 0\r\n\r") == [b"0"]
    assert splitter.feed(b"\ndata: 1\r\n\r\n") == [b"1"]


def test_blank_lines_between_events_are_nothing() -> None:
    assert split(b"\n\n\ndata: 0\n\n\n\n\ndata: 1\n\n") == [b"0", b"1"]


@pytest.mark.parametrize("tail", [b"data: [DONE]\n", b"data: [DONE]", b"data: [DONE]\r"])
def test_the_last_event_needs_no_blank_line(tail: bytes) -> None:
    assert split(b"data: 0\n\n", tail) == [b"0", DONE]


def test_a_stream_that_ends_between_events_has_no_last_one() -> None:
    assert split(b"data: 0\n\n") == [b"0"]
    assert split() == []


def test_bytearrays_are_taken_as_they_come_from_the_parser() -> None:
    splitter = EventSplitter()
    splitter.feed(bytearray(b"\n"))
    assert splitter.feed(bytearray(b"data: 0\n\n")) == [b"0"]
    assert splitter.feed(bytearray(b"data: 1\ndata: 2\n\n")) == [b"1\n2"]
