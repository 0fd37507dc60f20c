"""Simulated time."""

from vllmstack.simulation.timeline import Timeline


def test_callbacks_come_in_the_order_of_their_times_and_then_of_asking() -> None:
    timeline, seen = Timeline(), []
    for name, seconds in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        timeline.at(seconds, lambda name=name: seen.append((name, timeline.now)))  # type: ignore[misc]

    timeline.run()

    assert seen == [("first", 1.0), ("second", 1.0), ("late", 2.0)]


def test_a_callback_may_ask_for_more() -> None:
    timeline, seen = Timeline(), []
    timeline.at(1.0, lambda: timeline.at(timeline.now + 2, lambda: seen.append(timeline.now)))

    timeline.run()

    assert seen == [3.0]
