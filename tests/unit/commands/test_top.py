"""`vllmstack top`: what it makes of Prometheus' answers, to the column."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tests.unit.conftest import Clone, Outcome
from tests.unit.fake_docker import FakeContainer, FakeDocker
from tests.unit.prometheus_answers import promtool, sample, samples
from vllmstack import console
from vllmstack.commands import top

Run = Callable[..., Outcome]

SMOKE = {
    "requests_per_second": 12.34,
    "errors_per_second": 0.5,
    "in_flight": 18,
    "queued": 0,
    "ttft_p50_seconds": 0.041,
    "ttft_p95_seconds": 1.2,
    "tpot_p50_seconds": 0.0052,
    "tpot_p95_seconds": 0.0079,
    "output_tokens_per_second": 1234.4,
    "prompt_tokens_per_second": 56123,
    "prefix_hit_ratio": 0.72,
    "within_targets_ratio": 0.99999,
}
IDLE: dict[str, float | str] = {"in_flight": 0, "queued": 0, "ttft_p50_seconds": "NaN", "prefix_hit_ratio": "NaN"}
SERVING = {
    "up": 1,
    "takes_requests": 1,
    "answers": 1,
    "running": 17,
    "waiting": 1,
    "kv_cache_ratio": 0.254,
    "output_tokens_per_second": 1234.4,
    "preemptions_per_second": 0,
}
GPU = {
    "utilization_ratio": 0.87,
    "memory_used_bytes": 70.5 * 2**30,
    "memory_total_bytes": 140 * 2**30,
    "power_watts": 412.4,
    "temperature_celsius": 63,
}
SMOKE_1 = samples("replica", SERVING, model="smoke", replica="engine-smoke-1")
ROWS = [
    *samples("model", SMOKE, model="smoke"),
    *samples("model", IDLE, model="other/smoke"),
    *samples("replica", {"up": 0, "takes_requests": 0, "answers": 0}, model="smoke", replica="engine-smoke-10"),
    *samples("replica", {"up": 1, "takes_requests": 0, "answers": 1}, model="smoke", replica="engine-smoke-2"),
    *SMOKE_1,
    *samples("replica", {"up": 1}, model="other/smoke", replica="engine-other-smoke-1"),
]

FRAME = """\
smoke · 1 of 4 replicas take requests · rates over 1 min · 12:04:31
no alert fires

model        req/s  in flight  queued  5xx/s  429/s  in target
other/smoke      0          0       0      0      0          –
smoke           12         18       0   0.50      0      99.9%

model        TTFT p50     p95  TPOT p50     p95  tok/s  prompt  prefix
other/smoke         –       –         –       –      –       –       –
smoke           41 ms  1.20 s    5.2 ms  7.9 ms  1,234     56k     72%

replica               gateway      running  waiting   KV  tok/s  preempt/s
engine-other-smoke-1  –                  –        –    –      –          –
engine-smoke-1        in                17        1  25%  1,234          0
engine-smoke-2        out, alive         –        –    –      –          –
engine-smoke-10       out, silent        –        –    –      –          –
"""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 80)
    monkeypatch.setattr(top, "_clock", lambda: "12:04:31")


@pytest.fixture
def prometheus(clone: Clone, daemon: FakeDocker) -> FakeContainer:
    clone.is_up()
    made = FakeContainer(service="prometheus", programs={"/bin/promtool": promtool(ROWS)})
    daemon.stack = [FakeContainer(service="gateway"), made]
    return made


@pytest.fixture
def shown(vllmstack: Run, monkeypatch: pytest.MonkeyPatch, prometheus: FakeContainer) -> Callable[..., str]:
    """What a frame of these rows says, 80 columns wide."""

    def run(*rows: dict[str, Any]) -> str:
        prometheus.programs["/bin/promtool"] = promtool(list(rows))
        monkeypatch.setattr(console.out, "width", 80)
        done = Console(file=io.StringIO(), width=80, highlight=False)
        monkeypatch.setattr(top, "out", done)
        assert vllmstack("top", "--once").status == 0
        return done.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    return run


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_without_a_terminal_it_is_one_frame(shown: Callable[..., str]) -> None:
    assert lines(shown(*ROWS)) == FRAME.splitlines()


def test_alerts_come_first_with_what_they_are_of(shown: Callable[..., str]) -> None:
    labels = {"__name__": "ALERTS", "alertname": "TargetMissed", "alertstate": "firing", "severity": "page"}
    alert = sample("alert.firing", 1, **labels, model="smoke", slo="ttft")

    assert lines(shown(*ROWS, alert))[1:3] == ["! TargetMissed (page) model=smoke slo=ttft", ""]


def test_many_alerts_leave_room_for_the_figures(shown: Callable[..., str]) -> None:
    alerts = [sample("alert.firing", 1, alertname=f"A{number}") for number in range(9)]

    assert lines(shown(*SMOKE_1, *alerts))[1:9] == [*(f"! A{number}" for number in range(6)), "! and 3 more", ""]


def test_gpus_are_there_where_something_tells_of_them(shown: Callable[..., str]) -> None:
    rows = [
        *SMOKE_1,
        *samples("gpu", GPU, gpu="0"),
        *samples("gpu", {"utilization_ratio": 0}, gpu="1"),
    ]

    assert lines(shown(*rows))[-3:] == [
        "GPU  busy           memory  power  temperature",
        "0     87%  70.5 of 140 GiB  412 W        63 °C",
        "1      0%                –      –            –",
    ]


def test_eight_replicas_with_long_names_and_large_numbers_fit_80_columns(shown: Callable[..., str]) -> None:
    model = "meta-llama/Llama-3.3-70B-Instruct-FP8"
    large = dict.fromkeys(SMOKE, 9999.4) | dict.fromkeys([name for name in SMOKE if name.endswith("_seconds")], 9.99)
    rows = samples("model", large | {"prefix_hit_ratio": 0.998, "within_targets_ratio": 0.998}, model=model)
    for number in range(1, 9):
        values = dict.fromkeys(SERVING, 9999.4) | {"takes_requests": 0, "answers": 0, "kv_cache_ratio": 0.998}
        rows += samples("replica", values, model=model, replica=f"engine-{model.lower().replace('/', '-')}-{number}")
    text = shown(*rows)

    assert max(map(len, lines(text))) <= 80
    assert [line.split()[0] for line in lines(text)[-8:]] == [f"…-70b-instruct-fp8-{number}" for number in range(1, 9)]
    assert text.count("…") == 2 + 8, "only names are shortened"


def test_json_has_all_figures(vllmstack: Run, prometheus: FakeContainer) -> None:
    document = json.loads(vllmstack("top", "--json").out)

    assert (document["deployment"], document["window_seconds"]) == ("smoke", 60)
    other, smoke = document["models"]
    assert smoke == SMOKE | {"model": "smoke", "refused_per_second": 0}
    assert (other["model"], other["requests_per_second"], other["ttft_p50_seconds"]) == ("other/smoke", 0, None)
    assert [one["replica"] for one in document["replicas"]] == [
        "engine-other-smoke-1",
        "engine-smoke-1",
        "engine-smoke-2",
        "engine-smoke-10",
    ]
    assert document["replicas"][1] == SERVING | {"model": "smoke", "replica": "engine-smoke-1"}
    assert (document["gpus"], document["alerts"]) == ([], [])


def test_rates_are_over_four_scrapes_where_they_are_rare(
    vllmstack: Run, clone: Clone, prometheus: FakeContainer
) -> None:
    asked: list[str] = []

    def run(arguments: list[str]) -> tuple[int, str]:
        asked.append(arguments[-1])
        return 0, "[]"

    prometheus.programs["/bin/promtool"] = run
    with (clone.project.rendered("smoke") / "compose.env").open("a") as file:
        file.write("VLLMSTACK_SCRAPE_SECONDS=30\n")

    assert json.loads(vllmstack("top", "--json").out)["window_seconds"] == 120
    (question,) = asked
    assert set(re.findall(r"\[(\w+)\]", question)) == {"120s"}


def test_a_prometheus_that_has_just_begun_knows_nothing(shown: Callable[..., str]) -> None:
    assert lines(shown())[-1] == "Prometheus knows no replica yet: it has been started just now, or scrapes none"


def test_a_prometheus_that_does_not_run_is_one_clear_line(vllmstack: Run, prometheus: FakeContainer) -> None:
    prometheus.status = "exited"

    done = vllmstack("top")

    assert done.status == 1
    assert done.err == (
        "vllmstack: prometheus: does not run\n  hint: run `vllmstack up`; `vllmstack status` needs none\n"
    )


def test_on_a_terminal_it_goes_on_until_it_is_interrupted(
    vllmstack: Run, prometheus: FakeContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, height=40, highlight=False)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        prometheus.status = "exited" if len(pauses) == 2 else "running"
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(top, "out", terminal)
    monkeypatch.setattr("vllmstack.commands.top.time.sleep", pause)

    done = vllmstack("top")

    written = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert (done.status, done.err.strip()) == (130, "vllmstack: interrupted")
    assert pauses == [5.0] * 4, "as long as a scrape"
    assert written.count("replicas take requests") == 1 + 3
    assert written.count("prometheus: does not run") == 1, "while it is away, above the last figures"
    assert "\x1b[?1049l" in written, "the terminal has its own text back"
