"""The GPU exporter beside nvidia-smi, at rest and at work."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

PROGRAMS = Path(__file__).parents[2] / "docker" / "exporters"
PORT = 19400

FIELDS = {
    "vllmstack_gpu_memory_total_bytes": ("memory.total", 1 << 20),
    "vllmstack_gpu_memory_used_bytes": ("memory.used", 1 << 20),
    "vllmstack_gpu_power_limit_watts": ("enforced.power.limit", 1),
    "vllmstack_gpu_power_watts": ("power.draw.instant", 1),
    "vllmstack_gpu_temperature_celsius": ("temperature.gpu", 1),
    "vllmstack_gpu_utilization_ratio": ("utilization.gpu", 0.01),
    "vllmstack_gpu_clock_max_hertz": ("clocks.max.sm", 1e6),
    "vllmstack_gpu_clock_hertz": ("clocks.sm", 1e6),
}
"""By metric: nvidia-smi's field, and the metric's units in one of its."""

EXACT = ("vllmstack_gpu_memory_total_bytes", "vllmstack_gpu_power_limit_watts", "vllmstack_gpu_clock_max_hertz")

WORK = """
import ctypes, time
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
cuda.cuDeviceGet(ctypes.byref(device), 0)
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device) == 0
size = 8 << 30
assert cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(size)) == 0
end = time.monotonic() + 40
print("works", flush=True)
while time.monotonic() < end:
    for _ in range(50):
        cuda.cuMemsetD32_v2(memory, 7, ctypes.c_size_t(size // 4))
    cuda.cuCtxSynchronize()
"""
"""Fills 8 GiB again and again, for 40 s at most."""

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA GPU on this machine")


@pytest.fixture(scope="module")
def exporter() -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "gpu_exporter.py"], cwd=PROGRAMS, env={**os.environ, "EXPORTER_PORT": str(PORT)}
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                scrape()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def scrape() -> dict[str, float]:
    """Of the first GPU: value by metric; of clocks, the SM's."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10).read().decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {
        one.name: one.value
        for one in samples
        if one.labels.get("gpu", "0") == "0" and one.labels.get("clock", "sm") == "sm"
    }


def nvidia_smi() -> dict[str, float]:
    """The same by nvidia-smi, in the metrics' units."""
    fields = ",".join(field for field, _ in FIELDS.values())
    line = subprocess.run(
        ["nvidia-smi", "--id=0", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    values = (float(value) for value in line.split(","))
    return {name: value * unit for (name, (_, unit)), value in zip(FIELDS.items(), values, strict=True)}


def agree(tolerance: float) -> dict[str, tuple[float, float]]:
    """Both, of readings one after the other; fails where they differ by more than that share of the larger one."""
    found, expected = scrape(), nvidia_smi()
    pairs = {name: (found[name], expected[name]) for name in FIELDS}
    for name, (ours, theirs) in pairs.items():
        print(f"measured: {name} {ours:.4g}, nvidia-smi {theirs:.4g}")
        allowed = 0.001 if name in EXACT else tolerance
        assert abs(ours - theirs) <= allowed * max(ours, theirs), name
    return pairs


def test_it_agrees_with_nvidia_smi_at_rest(exporter: None) -> None:
    # Asking wakes the GPU: its clock and power move meanwhile.
    agree(0.3)
    assert scrape()["vllmstack_gpu_nvml_up"] == 1


def test_it_agrees_with_nvidia_smi_at_work(exporter: None) -> None:
    before = scrape()
    worker = subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE)
    try:
        assert worker.stdout
        assert worker.stdout.readline() == b"works\n"
        time.sleep(4)
        began = time.monotonic()
        first = scrape()
        pairs = agree(0.1)
        time.sleep(4)
        last, seconds = scrape(), time.monotonic() - began
    finally:
        worker.terminate()
        worker.wait(timeout=20)

    assert pairs["vllmstack_gpu_utilization_ratio"][0] > 0.9
    assert last["vllmstack_gpu_memory_used_bytes"] - before["vllmstack_gpu_memory_used_bytes"] > 8 << 30
    watts = (last["vllmstack_gpu_energy_joules_total"] - first["vllmstack_gpu_energy_joules_total"]) / seconds
    now = last["vllmstack_gpu_power_watts"]
    print(f"measured: {watts:.0f} W by the energy counter over {seconds:.1f} s, {now:.0f} W now")
    assert watts == pytest.approx(now, rel=0.15)
