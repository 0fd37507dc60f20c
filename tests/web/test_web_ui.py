"""The web UI as a person uses it: start, watch, change, stop, download."""

import csv
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from loadtest.results import ROW_FIELDS, RunResult
from tests.attempts import attempts
from tests.web.actions import field, fill, opened, phase, press, start_page, tab
from tests.web.running import Locust, running_locust, until

WATCHED_USERS = 4


@pytest.fixture(scope="module")
def watched(locust_that_runs: Locust) -> Locust:
    """A closed loop that goes on, with enough answers to look at."""
    until("20 answers", lambda: (locust_that_runs.state.get("rows") or {}).get("total", {}).get("ok", 0) >= 20, 60)
    return locust_that_runs


@pytest.fixture(scope="module")
def locust_that_runs(mock_engine: int, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locust]:
    with running_locust(mock_engine, tmp_path_factory.mktemp("watched")) as running:
        context = browser.new_context()
        page = start_page(context.new_page(), running)
        # Empty, it ends after the scenario's own minute: too soon for all that looks at it on a slow machine.
        fill(page, scenario="chat", userCount=str(WATCHED_USERS), duration="600")
        page.get_by_label("prompt_tokens").fill("64")
        page.get_by_label("completion_tokens").fill("16")
        press(page, "Start")
        expect(page.get_by_role("tab", name="LLM charts")).to_be_visible(timeout=60_000)
        context.close()
        yield running


# Watching


def test_charts_come_first_and_show_what_the_server_does(page: Page, watched: Locust) -> None:
    opened(page, watched)
    expect(page.get_by_role("tab", name="LLM charts")).to_have_attribute("aria-selected", "true")
    titles = page.locator(".llm-chart h3")
    expect(titles).to_have_text(
        [re.compile(name) for name in (
            "Time to first token.*ms", "Time per output token.*ms", "Output tokens.*tokens/s", "Goodput.*%",
            "Offered and achieved rate.*requests/s", "Requests in flight",
        )]
    )  # fmt: skip
    first = page.locator(".llm-chart").first
    expect(first.locator(".llm-legend")).to_contain_text("p99")
    assert until("a line", lambda: len(first.locator(".llm-line").first.get_attribute("d") or "") > 20)
    phase(page, "measuring")


def test_a_chart_says_the_values_below_the_pointer(page: Page, watched: Locust) -> None:
    drawing = opened(page, watched).locator(".llm-drawing").first
    expect(drawing.locator(".llm-line")).to_have_count(3)
    drawing.hover()
    tooltip = drawing.locator(".llm-tooltip")
    expect(tooltip).to_contain_text(re.compile(r"\d:\d\d.*p99[\d.,]+ ms.*p50[\d.,]+ ms"))
    expect(page.locator(".llm-tooltip:visible")).to_have_count(1)
    page.mouse.move(5, 5)
    expect(tooltip).to_be_hidden()


def test_tables_have_percentiles_by_measure_and_tell_what_the_mock_does(page: Page, watched: Locust) -> None:
    opened(page, watched)
    tab(page, "LLM tables")
    expect(page.locator(".llm-tables table")).to_have_count(3)
    assert "?tab=llm-tables" in page.url
    heads = page.locator(".llm-tables table").nth(1).locator("thead th").all_inner_texts()
    assert heads == ["Measure", "Scenario", "Model", "p50", "p90", "p95", "p99", "mean", "max", "", "Values"]
    row = page.locator("tr", has_text="Time to first token").locator("td")
    texts = row.all_inner_texts()
    assert (texts[0], texts[1], texts[8]) == ("chat", "smoke", "ms")
    percentiles = [float(text.replace(",", "")) for text in texts[2:6]]
    # The mock takes 50 ms, a browser beside it on two cores makes it more; another unit were a thousand times as much.
    assert 50 <= percentiles[0] < 1000
    assert percentiles == sorted(percentiles)
    completion = page.locator("tr", has_text="Completion").last.locator("td").all_inner_texts()
    assert completion[2] == "16"


def test_of_the_targets_only_the_one_of_this_load_is_judged(page: Page, watched: Locust) -> None:
    opened(page, watched)
    tab(page, "LLM targets")
    cards = page.locator(".llm-target")
    expect(cards).to_have_count(2)
    ttft, tokens = (cards.nth(0).locator("tr", has_text=name) for name in ("ttft p50", "output tokens"))
    for attempt in attempts():
        # Where the machine made the client late after all, nobody can tell, and the page must say so too. It may become
        # late, or be so no more, between this look and the page's.
        judged = watched.state["targets"][0]
        late = judged["state"] == "cannot tell"
        assert late or judged["state"] == "missed"
        with attempt:
            patience = 5_000
            expect(cards.nth(0).locator("header")).to_contain_text(
                f"{judged['state']}chat · concurrency 4", timeout=patience
            )
            met = re.compile(rf"at most 1\.5 s[\d.]+ ms{r'[?] cannot tell' if late else '✓ met'}")
            expect(ttft).to_contain_text(met, timeout=patience)
            expect(tokens).to_contain_text("? cannot tell" if late else "✗ missed", timeout=patience)
            if late:
                expect(cards.nth(0).locator(".llm-reason")).not_to_have_count(0, timeout=patience)
    expect(cards.nth(1).locator("header")).to_contain_text("not runchat · concurrency 64")
    expect(page.locator(".llm-facts")).to_contain_text("of what was asked")


def test_the_page_follows_locusts_theme(page: Page, watched: Locust) -> None:
    opened(page, watched)
    surface = "getComputedStyle(document.documentElement).getPropertyValue('--llm-surface')"
    expect(page.locator(".llm-tile").first).to_be_visible()
    assert page.evaluate(surface) == "#ffffff"
    page.locator("header button:has(svg)").last.click()
    until("the dark theme", lambda: page.evaluate(surface) != "#ffffff")
    page.reload()
    until("the dark theme again", lambda: page.evaluate(surface) != "#ffffff")


def test_locusts_own_tabs_are_still_there_and_have_none_of_ours_below_them(page: Page, watched: Locust) -> None:
    opened(page, watched)
    expect(page.locator(".llm-panel")).to_be_visible()
    tab(page, "Statistics")
    expect(page.locator(".llm-panel")).to_be_hidden()
    expect(page.get_by_text("# Requests")).to_be_visible()
    tab(page, "Download Data")
    expect(page.get_by_text("Download run.json (LLM)")).to_be_visible()
    page.go_back()


def test_a_scenario_cannot_be_changed_under_way_and_the_page_says_so(page: Page, watched: Locust) -> None:
    opened(page, watched)
    current = watched.get("llm/form")["current"]
    form = {"user_count": str(WATCHED_USERS), "spawn_rate": "100", **current, "scenario": "rag"}
    answer = page.request.post(watched.url + "swarm", form=form)
    assert answer.json()["success"] is False
    expect(page.locator(".llm-banner")).to_contain_text("scenario: cannot be changed while a run goes on")
    # An edit that is right clears it, from the dialog of a page that was loaded while the run went on.
    page.reload()
    expect(page.locator(".llm-banner")).to_contain_text("scenario: cannot be changed while a run goes on")
    press(page, "Edit")
    expect(field(page, "userCount")).to_be_visible()
    expect(field(page, "scenario")).to_be_hidden()
    press(page, "Update")
    expect(page.locator(".llm-banner")).not_to_contain_text("cannot be changed")


def test_an_edit_cannot_be_sent_before_its_form_holds_what_the_run_was_started_with(
    page: Page, watched: Locust
) -> None:
    held: list[Route] = []
    sent: list[str] = []
    page.route("**/llm/form", lambda route, _: held.append(route))
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    opened(page, watched)
    with page.expect_request("**/llm/form"):
        press(page, "Edit")
    field(page, "userCount").focus()
    page.keyboard.press("Enter")
    assert sent == []
    page.get_by_role("button", name="Update", exact=True).click(force=True)
    assert sent == []
    held[0].continue_()
    with page.expect_response("**/swarm") as answer:
        press(page, "Update")
    assert answer.value.json()["success"] is True, answer.value.text()
    assert sent == [watched.url + "swarm"]


def test_an_invalid_run_says_so_with_its_reasons_whatever_is_looked_at(page: Page, watched: Locust) -> None:
    flags = [
        {"kind": "client", "severity": "invalid", "fact": "the client was late itself", "hint": "give it <b>cores</b>"},
        {"kind": "server", "severity": "warning", "fact": "an engine was restarted", "hint": "look at its logs"},
        {"kind": "workload", "severity": "note", "fact": "nothing to see", "hint": ""},
    ]

    def flagged(route: Route) -> None:
        answer = route.fetch()
        state = answer.json()
        state["run"]["flags"] = flags
        state["notice"] = ""  # that of a test before, which is in the banner until the next change
        route.fulfill(response=answer, json=state)

    page.route("**/llm/state", flagged)
    opened(page, watched)
    banner = page.locator(".llm-banner")
    for name in ("LLM charts", "Statistics"):
        tab(page, name)
        expect(banner.locator(".llm-alert-bad")).to_contain_text("INVALID so far: these numbers must not be used")
        expect(banner).to_contain_text("the client was late itselfgive it <b>cores</b>")
        expect(banner.locator(".llm-alert-warn")).to_contain_text("an engine was restarted")
        expect(banner).not_to_contain_text("nothing to see")
    page.unroute("**/llm/state")
    # A browser beside it on two cores may make this client really late: what is gone is the reason given above.
    expect(banner).not_to_contain_text("give it <b>cores</b>")


def test_prometheus_gets_the_run(watched: Locust) -> None:
    with urllib.request.urlopen(watched.metrics_url, timeout=10) as answer:  # noqa: S310 - http, to 127.0.0.1
        text = answer.read().decode()
    assert re.search(
        r'^vllmstack_loadtest_requests_total\{model="smoke",outcome="ok",scenario="chat"\} [1-9]', text, re.M
    )


# A whole journey


def test_start_watch_change_stop_and_download_on_a_master_with_workers(
    page: Page, mock_engine: int, tmp_path: Path
) -> None:
    with running_locust(mock_engine, tmp_path, "--processes", "2") as locust:
        until("both workers", lambda: locust.get("worker-count")["worker_count"] == 2)
        start_page(page, locust)
        fill(page, scenario="chat", userCount="4", warmup="1", duration="600")
        page.get_by_label("completion_tokens").fill("16")
        press(page, "Start")
        phase(page, "measuring")
        until("answers", lambda: locust.state["rows"]["total"]["ok"] >= 20)
        press(page, "Edit")
        fill(page, userCount="8")
        press(page, "Update")
        expect(page.locator(".llm-banner")).to_contain_text("users from 4 to 8")
        until("8 in flight", lambda: 8 in locust.state["timeline"]["in_flight"])
        tab(page, "LLM targets")
        expect(page.locator(".llm-target").first.locator("header")).to_contain_text("cannot tell")
        press(page, "Stop")
        phase(page, "ended")
        rows = download(page, "requests.csv", tmp_path)
        run = RunResult.model_validate_json(download(page, "run.json", tmp_path).read_text())
        assert run.client.processes == 2
        assert (run.scenario, run.load.concurrency) == ("chat", 4)
        with rows.open() as file:
            listed = list(csv.DictReader(file))
        assert tuple(listed[0]) == ROW_FIELDS
        assert sum(row["measured"] == "1" for row in listed) == run.total.counts.sent > 20
        assert (locust.results / run.id / "run.json").is_file()


def test_an_open_loop_is_offered_at_the_rate_that_was_set_and_then_changed(
    page: Page, mock_engine: int, tmp_path: Path
) -> None:
    with running_locust(mock_engine, tmp_path) as locust:
        start_page(page, locust)
        fill(page, scenario="chat", rate="10", arrivals="constant", duration="600")
        page.get_by_label("completion_tokens").fill("8")
        press(page, "Start")
        phase(page, "measuring")
        tab(page, "LLM tables")
        expect(page.locator(".llm-tables")).to_contain_text("scheduled: from when it was due")
        until("10 a second", lambda: locust.state["timeline"]["due"][-2:] == [10, 10])
        press(page, "Edit")
        expect(field(page, "userCount")).to_be_hidden()
        fill(page, rate="20")
        press(page, "Update")
        until("20 a second", lambda: locust.state["timeline"]["due"][-2:] == [20, 20])
        expect(page.locator(".llm-banner")).to_contain_text("rate from 10 to 20")
        press(page, "Stop")
        phase(page, "ended early")


def test_a_run_of_so_many_requests_ends_by_itself_and_a_new_one_can_be_started(
    page: Page, mock_engine: int, tmp_path: Path
) -> None:
    with running_locust(mock_engine, tmp_path) as locust:
        start_page(page, locust)
        fill(page, scenario="chat", userCount="2", requests="10")
        page.get_by_label("completion_tokens").fill("4")
        press(page, "Start")
        phase(page, "ended")
        first = locust.state["run"]["id"]
        assert locust.state["rows"]["total"]["sent"] == 10
        press(page, "New")
        expect(page.locator("[role=dialog] .llm-scenario, .MuiModal-root .llm-scenario")).to_be_visible()
        assert page.get_by_label("completion_tokens").input_value() == "4", "what was chosen last"
        fill(page, requests="12")
        press(page, "Start")
        until("another run", lambda: (locust.state["run"] or {}).get("id", first) != first)
        until("12 requests", lambda: ((locust.state["rows"] or {}).get("total") or {}).get("sent") == 12)


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]], ids=["alone", "workers"])
def test_a_long_preparation_is_shown_and_can_be_stopped(
    page: Page, mock_engine: int, tmp_path: Path, processes: list[str]
) -> None:
    with running_locust(mock_engine, tmp_path, *processes) as locust:
        until("its workers", lambda: not processes or locust.get("worker-count")["worker_count"] == 2)
        start_page(page, locust)
        fill(page, scenario="random-512-256", rate="100", duration="600")
        page.get_by_label("prompt_tokens").fill("20000")  # minutes of preparation
        press(page, "Start")
        tab(page, "LLM tables")
        preparing = page.get_by_text("Preparing the run")
        expect(preparing).to_be_visible()
        # Longer than Locust's page takes to ask for the state twice.
        page.wait_for_timeout(5000)
        expect(preparing).to_be_visible()
        press(page, "Edit")
        fill(page, rate="50")
        press(page, "Update")
        expect(page.locator(".llm-banner")).to_contain_text("the run is still being prepared")
        press(page, "Stop")
        until("the end", lambda: locust.state["state"] == "stopped")
        assert locust.state["run"] is None

        press(page, "New")
        fill(page, scenario="chat", rate="", userCount="2", duration="", requests="10")
        page.get_by_label("prompt_tokens").fill("")
        press(page, "Start")
        until("10 requests", lambda: (locust.state.get("rows") or {}).get("total", {}).get("sent") == 10)


def test_the_web_ui_below_a_base_path_works_too(page: Page, mock_engine: int, tmp_path: Path) -> None:
    with running_locust(mock_engine, tmp_path, "--web-base-path", "/load", path="load/") as locust:
        start_page(page, locust)
        assert locust.state["state"] == "ready"


def download(page: Page, name: str, folder: Path) -> Path:
    link = page.locator(".llm-downloads a", has_text=name)
    expect(link).to_be_visible(timeout=60_000)
    with page.expect_download() as begun:
        link.click()
    file = folder / name
    begun.value.save_as(file)
    return file
