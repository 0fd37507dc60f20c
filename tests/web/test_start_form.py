"""The start form: it explains what can be asked, and says what is wrong before anything starts."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.actions import field, fill, opened, press, start_page
from tests.web.running import Locust


def test_the_start_form_explains_the_chosen_scenario_and_its_parameters(page: Page, locust: Locust) -> None:
    start_page(page, locust)
    fill(page, scenario="rag")
    box = page.locator(".llm-scenario")
    expect(box).to_contain_text("retrieved passages")
    expect(page.get_by_label("documents.tokens")).to_have_attribute("placeholder", re.compile(r"\d+"))
    page.get_by_label("documents.tokens").fill("300")
    assert field(page, "parameters").input_value() == "documents.tokens=300"
    fill(page, scenario="lab-200-200")
    assert field(page, "parameters").input_value() == ""
    page.get_by_role("button", name="Use its own load").click()
    assert [field(page, name).input_value() for name in ("userCount", "requests", "duration")] == ["64", "100", ""]


def test_the_form_shows_only_what_the_chosen_arrivals_need(page: Page, locust: Locust) -> None:
    start_page(page, locust)
    needed = {"gamma": "burstiness", "ramp": "untilRate", "steps": "steps", "trace": "trace"}
    for arrivals, name in needed.items():
        fill(page, arrivals=arrivals)
        shown = {other for other in needed.values() if field(page, other).is_visible()}
        assert shown == {name}
    fill(page, arrivals="gamma", burstiness="0.5")
    fill(page, arrivals="poisson")
    assert field(page, "burstiness").input_value() == "", "what is not seen is not sent"
    fill(page, arrivals="gamma")
    assert field(page, "burstiness").input_value() == "0.5"


def test_a_rate_makes_an_open_loop_in_which_users_are_not_used(page: Page, locust: Locust) -> None:
    start_page(page, locust)
    note = page.get_by_text("Not used: sessions come by rate")
    expect(note).to_have_count(0)
    fill(page, rate="2")
    expect(note).to_be_visible()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rate": "fast"}, "'fast'"),
        ({"duration": "-5"}, "-5 is too small"),
        ({"model": "gpt"}, "no model 'gpt' (it has: smoke)"),
        ({"arrivals": "trace", "trace": "/no/such/file"}, "/no/such/file"),
        ({"arrivals": "steps", "steps": "fast"}, "'fast' is no step"),
        ({"host": "http://127.0.0.1:1"}, "http://127.0.0.1:1 cannot be reached"),
    ],
)
def test_bad_input_is_one_line_in_the_form_and_nothing_starts(
    page: Page, locust: Locust, values: dict[str, str], words: str
) -> None:
    start_page(page, locust)
    fill(page, **values)
    press(page, "Start")
    expect(page.locator("form [role=alert]")).to_contain_text(words)
    assert locust.state["state"] == "ready"
    assert locust.state["run"] is None


def test_a_parameter_that_the_scenario_does_not_have_is_refused(page: Page, locust: Locust) -> None:
    start_page(page, locust)
    page.get_by_label("prompt_tokens").fill("many")
    press(page, "Start")
    expect(page.locator("form [role=alert]")).to_contain_text("prompt_tokens")
    assert locust.state["state"] == "ready"


@pytest.mark.parametrize("missing", ["form", "static/page.js"])
def test_where_nothing_comes_of_ours_the_form_is_locusts_own_and_can_be_sent(
    page: Page, locust: Locust, missing: str
) -> None:
    page.route(f"**/llm/{missing}", lambda route: route.fulfill(status=500))
    opened(page, locust)
    fill(page, host="http://127.0.0.1:1")
    press(page, "Start")
    expect(page.locator("form [role=alert]")).to_contain_text("http://127.0.0.1:1 cannot be reached")
    expect(page.locator(".llm-scenario")).to_have_count(0)


def numbers(page: Page, expression: str) -> Any:
    return page.evaluate(
        f"import('/llm/static/format.js').then(({{ number, percent, seconds, clock }}) => {expression})"
    )


def test_numbers_are_written_as_people_read_them(page: Page, locust: Locust) -> None:
    opened(page, locust)
    assert numbers(page, "[0.0123, 12345.6, 0, null, 50].map((value) => number(value))") == [
        "0.0123", "12,346", "0", "–", "50"
    ]  # fmt: skip
    assert numbers(page, "number(50, { even: true })") == "50.0"
    assert numbers(page, "[1, 0.99833, 0.9999, 0, 0.00167].map(percent)") == [
        "100 %", "99.8 %", "99.99 %", "0 %", "0.167 %"
    ]  # fmt: skip
    assert numbers(page, "[0.0004, 0.25, 8, null].map((value) => seconds(value))") == ["400 µs", "250 ms", "8 s", "–"]
    assert numbers(page, "[0, 75, 3700].map(clock)") == ["0:00", "1:15", "1:01:40"]
