"""The GPUs of this host for Prometheus, as NVML tells of them.

Without a GPU or its driver it says so (`vllmstack_gpu_nvml_up 0`) and serves nothing else. What a GPU does not support
(ECC on a consumer's card, energy on an old one) has no samples.
https://docs.nvidia.com/deploy/nvml-api/
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pynvml
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from serving import serve

PREFIX = "vllmstack_gpu_"
GPU = ("gpu", "uuid")
"""Index as in `nvidia-smi`, and the identity that stays when a card is moved."""

EVENT_MILLISECONDS = 1000

THROTTLE_REASONS = {
    "power_cap": "nvmlClocksEventReasonSwPowerCap",
    "hardware_slowdown": "nvmlClocksEventReasonHwSlowdown",
    "software_thermal": "nvmlClocksEventReasonSwThermalSlowdown",
    "hardware_thermal": "nvmlClocksEventReasonHwThermalSlowdown",
    "power_brake": "nvmlClocksEventReasonHwPowerBrakeSlowdown",
}

Read = Callable[[Any, Any], float]
"""One number of a GPU, by NVML's module and the GPU's handle."""

Samples = Sequence[tuple[tuple[str, ...], float]]
"""Further labels and value."""

GAUGES: dict[str, tuple[str, Read]] = {
    "utilization_ratio": (
        "Share of the last sample in which a kernel ran.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    "memory_utilization_ratio": (
        "Share of the last sample in which memory was read or written.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).memory / 100,
    ),
    # Version 2, as nvidia-smi has it: version 1 counts what the driver keeps for itself too.
    "memory_used_bytes": (
        "Memory in use, without what the driver keeps for itself.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu, nvml.nvmlMemory_v2).used,
    ),
    "memory_total_bytes": (
        "Memory of the GPU.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    "power_watts": (
        "Power drawn now.",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    ),
    "power_limit_watts": (
        "Power that the GPU may draw.",
        lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    ),
    "temperature_celsius": (
        "Temperature of the GPU.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
    "temperature_slowdown_celsius": (
        "Temperature at which the GPU slows itself down.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperatureThreshold(gpu, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
    ),
    "processes": (
        "Processes that compute on the GPU.",
        lambda nvml, gpu: len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
    ),
    "processes_memory_bytes": (
        "Memory of the processes that compute on the GPU.",
        lambda nvml, gpu: sum(one.usedGpuMemory or 0 for one in nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
    ),
}

CLOCKS = {"sm": "NVML_CLOCK_SM", "memory": "NVML_CLOCK_MEM"}
ECC_KINDS = {"corrected": "NVML_MEMORY_ERROR_TYPE_CORRECTED", "uncorrected": "NVML_MEMORY_ERROR_TYPE_UNCORRECTED"}


class GpuCollector(Collector):
    """Asks NVML anew for each scrape; XID errors are events, and are counted as they come."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._xids: dict[str, tuple[int, int]] = {}
        """By UUID: how many, and the last one."""
        self._complaint = ""

    def collect(self) -> Iterator[Metric]:
        """All families; a GPU that has fallen off the bus has no samples, and the others have theirs."""
        gpus = self._gpus()
        yield GaugeMetricFamily(f"{PREFIX}nvml_up", "Whether NVML finds a driver and a GPU.", value=bool(gpus))
        if not gpus:
            return
        yield self._info(gpus)
        for name, (help_text, read) in GAUGES.items():
            family = GaugeMetricFamily(f"{PREFIX}{name}", help_text, labels=GPU)
            yield self._filled(family, gpus, partial(self._one, read))
        yield self._energy(gpus)
        yield from self._clocks(gpus)
        yield self._throttled(gpus)
        yield self._ecc(gpus)
        yield from self._xid(gpus)

    def watch(self) -> None:
        """Counts XID errors until the process ends, in a thread of its own."""
        threading.Thread(target=self._count_events, daemon=True).start()

    def _gpus(self) -> dict[tuple[str, str], Any]:
        """Handle by index and UUID."""
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            found = {(str(index), nvml.nvmlDeviceGetUUID(handle)): handle for index, handle in enumerate(handles)}
            self._complain("" if found else "the driver has no GPU for this container")
        except nvml.NVMLError as error:
            self._complain(f"NVML: {error}")
            return {}
        return found

    def _complain(self, text: str) -> None:
        """Once, not with every scrape."""
        if text != self._complaint:
            self._complaint = text
            print(json.dumps({"level": "warning", "message": text or "GPUs are back"}), file=sys.stderr, flush=True)

    def _filled(self, family: Any, gpus: dict[tuple[str, str], Any], read: Callable[[Any], Samples]) -> Metric:
        for labels, gpu in gpus.items():
            try:
                for further, value in read(gpu):
                    family.add_metric([*labels, *further], value)
            except self._nvml.NVMLError:  # not supported, or lost
                continue
        filled: Metric = family
        return filled

    def _one(self, read: Read, gpu: Any) -> Samples:
        return [((), read(self._nvml, gpu))]

    def _info(self, gpus: dict[tuple[str, str], Any]) -> Metric:
        nvml = self._nvml
        driver = nvml.nvmlSystemGetDriverVersion()
        family = GaugeMetricFamily(f"{PREFIX}info", "What the GPU is.", labels=[*GPU, "name", "driver_version"])
        return self._filled(family, gpus, lambda gpu: [((nvml.nvmlDeviceGetName(gpu), driver), 1)])

    def _energy(self, gpus: dict[tuple[str, str], Any]) -> Metric:
        nvml = self._nvml
        family = CounterMetricFamily(f"{PREFIX}energy_joules", "Energy since the driver was loaded.", labels=GPU)
        return self._filled(family, gpus, lambda gpu: [((), nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000)])

    def _clocks(self, gpus: dict[tuple[str, str], Any]) -> Iterator[Metric]:
        nvml = self._nvml
        for name, help_text, ask in (
            ("clock_hertz", "Clock now.", nvml.nvmlDeviceGetClockInfo),
            ("clock_max_hertz", "Highest clock.", nvml.nvmlDeviceGetMaxClockInfo),
        ):
            family = GaugeMetricFamily(f"{PREFIX}{name}", help_text, labels=[*GPU, "clock"])
            yield self._filled(family, gpus, partial(self._each_clock, ask))

    def _each_clock(self, ask: Callable[[Any, int], int], gpu: Any) -> Samples:
        return [((clock,), ask(gpu, getattr(self._nvml, constant)) * 1e6) for clock, constant in CLOCKS.items()]

    def _throttled(self, gpus: dict[tuple[str, str], Any]) -> Metric:
        nvml = self._nvml

        def read(gpu: Any) -> Samples:
            reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
            return [((name,), bool(reasons & getattr(nvml, constant))) for name, constant in THROTTLE_REASONS.items()]

        family = GaugeMetricFamily(f"{PREFIX}throttled", "Whether this holds clocks down now.", labels=[*GPU, "reason"])
        return self._filled(family, gpus, read)

    def _ecc(self, gpus: dict[tuple[str, str], Any]) -> Metric:
        nvml = self._nvml

        def read(gpu: Any) -> Samples:
            return [
                ((kind,), nvml.nvmlDeviceGetTotalEccErrors(gpu, getattr(nvml, constant), nvml.NVML_VOLATILE_ECC))
                for kind, constant in ECC_KINDS.items()
            ]

        help_text = "Memory errors since the driver was loaded."
        return self._filled(CounterMetricFamily(f"{PREFIX}ecc_errors", help_text, labels=[*GPU, "kind"]), gpus, read)

    def _xid(self, gpus: dict[tuple[str, str], Any]) -> Iterator[Metric]:
        count = CounterMetricFamily(f"{PREFIX}xid_errors", "XID errors since this exporter began.", labels=GPU)
        last = GaugeMetricFamily(f"{PREFIX}last_xid", "The last XID error; 0: none.", labels=GPU)
        for labels in gpus:
            number, xid = self._xids.get(labels[1], (0, 0))
            count.add_metric(labels, number)
            last.add_metric(labels, xid)
        yield count
        yield last

    def _count_events(self) -> None:
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            events = nvml.nvmlEventSetCreate()
            for index in range(nvml.nvmlDeviceGetCount()):
                gpu = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(gpu, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError as error:
            self._complain(f"XID errors are not counted: {error}")
            return
        while True:
            try:
                event = nvml.nvmlEventSetWait_v2(events, EVENT_MILLISECONDS)
            except nvml.NVMLError_Timeout:
                continue
            except nvml.NVMLError as error:
                self._complain(f"XID errors are not counted any more: {error}")
                return
            self.count(nvml.nvmlDeviceGetUUID(event.device), event.eventData)

    def count(self, uuid: str, xid: int) -> None:
        """One XID error of a GPU."""
        number, _ = self._xids.get(uuid, (0, 0))
        self._xids[uuid] = (number + 1, xid)


if __name__ == "__main__":
    collector = GpuCollector(pynvml)
    collector.watch()
    serve(collector)
