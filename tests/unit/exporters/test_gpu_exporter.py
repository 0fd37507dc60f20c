"""The GPU exporter on what NVML said on an H200 (scripts/record_nvml.py), and where there is none."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from gpu_exporter import GpuCollector
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

CAPTURES = Path(__file__).parents[2] / "captures"
RECORDING: dict[str, Any] = json.loads((CAPTURES / "nvml-h200.json").read_text())
UUID = "GPU-00000000-0000-0000-0000-000000000000"


class Replay:
    """NVML's module, which answers as it did when it was recorded; ``changes`` are other answers."""

    def __init__(self, **changes: Any) -> None:
        self.answers = RECORDING | changes

    def __getattr__(self, name: str) -> Any:
        found = getattr(pynvml, name)
        if not name.startswith("nvml") or isinstance(found, int):
            return found
        return lambda *arguments: self._answer(f"{name} {list(arguments)}")

    def _answer(self, call: str) -> Any:
        recorded = self.answers[call]
        if "error" in recorded:
            raise pynvml.NVMLError(recorded["error"])
        answer = recorded["answer"]
        if isinstance(answer, list):
            return [SimpleNamespace(**one) for one in answer]
        return SimpleNamespace(**answer) if isinstance(answer, dict) else answer


def refused(call: str, error: int) -> dict[str, Any]:
    return {call: {"error": error}}


def samples(collector: GpuCollector) -> dict[str, float]:
    """Value by name and further labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for one in family.samples:
            more = [one.labels[name] for name in ("clock", "reason", "kind", "name") if name in one.labels]
            found[" ".join([one.name.removeprefix("vllmstack_gpu_"), *more])] = one.value
    return found


def test_an_h200_is_told_in_the_units_of_the_names() -> None:
    found = samples(GpuCollector(Replay()))

    assert found["nvml_up"] == 1
    assert found["info NVIDIA H200"] == 1
    assert found["memory_total_bytes"] == 143771 << 20
    assert found["power_limit_watts"] == 700
    assert 50 < found["power_watts"] < 200
    assert 20 < found["temperature_celsius"] < 60
    assert found["temperature_slowdown_celsius"] == 89
    assert found["clock_max_hertz sm"] == 1.98e9
    assert found["clock_max_hertz memory"] == 3.201e9
    assert found["energy_joules_total"] > 0
    assert found["ecc_errors_total uncorrected"] == 0


def test_what_the_driver_keeps_for_itself_is_not_in_use() -> None:
    assert samples(GpuCollector(Replay()))["memory_used_bytes"] == 0


def test_the_capture_has_what_the_recording_gives() -> None:
    text = (CAPTURES / "gpu-exporter-metrics.txt").read_text()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GpuCollector(Replay()))

    def series(exposed: str) -> set[str]:
        return {line.rpartition(" ")[0] for line in exposed.splitlines() if not line.startswith("#")}

    assert series(generate_latest(registry).decode()) == series(text)


def test_without_a_driver_it_says_so_and_serves_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    collector = GpuCollector(Replay(**refused("nvmlInit []", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)))

    assert samples(collector) == {"nvml_up": 0}
    assert samples(collector) == {"nvml_up": 0}
    # Once, not with every scrape.
    assert re.findall("message", capsys.readouterr().err) == ["message"]


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    collector = GpuCollector(Replay(**{"nvmlDeviceGetCount []": {"answer": 0}}))

    assert samples(collector) == {"nvml_up": 0}
    assert "no GPU" in capsys.readouterr().err


def test_a_gpu_without_ecc_has_no_ecc_errors() -> None:
    calls = [call for call in RECORDING if call.startswith("nvmlDeviceGetTotalEccErrors")]
    errors = {call: {"error": pynvml.NVML_ERROR_NOT_SUPPORTED} for call in calls}

    found = samples(GpuCollector(Replay(**errors)))

    assert calls
    assert not any(name.startswith("ecc") for name in found)
    assert found["power_limit_watts"] == 700


def test_each_reason_that_holds_clocks_down_is_told() -> None:
    reasons = pynvml.nvmlClocksEventReasonHwThermalSlowdown | pynvml.nvmlClocksEventReasonSwPowerCap
    call = "nvmlDeviceGetCurrentClocksEventReasons ['gpu 0']"

    found = samples(GpuCollector(Replay(**{call: {"answer": reasons}})))

    held = {name.partition(" ")[2] for name, value in found.items() if name.startswith("throttled") and value}
    assert held == {"power_cap", "hardware_thermal"}


def test_xid_errors_are_counted_from_zero() -> None:
    collector = GpuCollector(Replay())
    before = samples(collector)

    collector.count(UUID, 79)
    collector.count(UUID, 31)
    after = samples(collector)

    assert (before["xid_errors_total"], before["last_xid"]) == (0, 0)
    assert (after["xid_errors_total"], after["last_xid"]) == (2, 31)


def test_an_xid_error_is_an_event_of_nvml() -> None:
    events = [79, 48]

    class WithEvents(Replay):
        def nvmlEventSetCreate(self) -> str:
            return "events"

        def nvmlDeviceRegisterEvents(self, gpu: str, kinds: int, to: str) -> None:
            assert (gpu, kinds, to) == ("gpu 0", pynvml.nvmlEventTypeXidCriticalError, "events")

        def nvmlEventSetWait_v2(self, of: str, milliseconds: int) -> SimpleNamespace:
            if not events:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return SimpleNamespace(device="gpu 0", eventData=events.pop(0))

    collector = GpuCollector(WithEvents())

    collector._count_events()

    assert (samples(collector)["xid_errors_total"], samples(collector)["last_xid"]) == (2, 48)
