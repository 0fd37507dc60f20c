"""Panels of the GPUs, which are empty on a machine without."""

from grafana.source.queries import GPUS, increase, query
from grafana.source.shapes import (
    BYTES,
    CELSIUS,
    COUNT,
    GREEN,
    HERTZ,
    RATIO,
    RED,
    WATTS,
    Timeline,
    Timeseries,
    graph,
    timeline,
)

NO_YES = {0: ("no", GREEN), 1: ("yes", RED)}


def by_gpu(metric: str) -> str:
    return f"max by (gpu) (vllmstack_gpu_{metric}{GPUS})"


def utilization() -> Timeseries:
    return graph(
        "Utilization by GPU",
        "Share of time that any kernel ran, which says little about how well it used the GPU.",
        RATIO,
        [query(by_gpu("utilization_ratio"), "GPU {{gpu}}")],
    ).max(1)


def memory_bus() -> Timeseries:
    return graph(
        "Memory bus by GPU",
        "Share of time that a GPU's memory was read or written: decode keeps it busy, prefill the cores.",
        RATIO,
        [query(by_gpu("memory_utilization_ratio"), "GPU {{gpu}}")],
    ).max(1)


def memory() -> Timeseries:
    return graph(
        "Memory by GPU",
        "Memory that is taken, and what there is.",
        BYTES,
        [
            query(by_gpu("memory_used_bytes"), "GPU {{gpu}}"),
            query(by_gpu("memory_total_bytes"), "GPU {{gpu}} limit"),
        ],
    )


def power() -> Timeseries:
    return graph(
        "Power by GPU",
        "What each GPU draws, and what it may: at its limit it slows down.",
        WATTS,
        [query(by_gpu("power_watts"), "GPU {{gpu}}"), query(by_gpu("power_limit_watts"), "GPU {{gpu}} limit")],
    )


def temperature() -> Timeseries:
    return graph(
        "Temperature by GPU",
        "How hot each GPU is, and from where on it slows down.",
        CELSIUS,
        [
            query(by_gpu("temperature_celsius"), "GPU {{gpu}}"),
            query(by_gpu("temperature_slowdown_celsius"), "GPU {{gpu}} limit"),
        ],
    )


def clocks() -> Timeseries:
    clock = f"max by (gpu, clock) (vllmstack_gpu_clock_hertz{GPUS})"
    highest = f"max by (gpu, clock) (vllmstack_gpu_clock_max_hertz{GPUS})"
    return graph(
        "Clocks by GPU",
        "Clocks of a GPU's cores (sm) and memory, and their highest.",
        HERTZ,
        [query(clock, "GPU {{gpu}} {{clock}}"), query(highest, "GPU {{gpu}} {{clock}} limit")],
    )


def throttled() -> Timeline:
    return timeline(
        "Throttled",
        "What holds a GPU's clocks down: heat and power cost speed, an idle GPU's low clocks do not.",
        NO_YES,
        [query(f"max by (gpu, reason) (vllmstack_gpu_throttled{GPUS})", "GPU {{gpu}} {{reason}}")],
    )


def errors() -> Timeseries:
    return graph(
        "Errors by GPU",
        "Memory errors and the driver's XID errors since the point before: uncorrected ones and XIDs end an engine.",
        COUNT,
        [
            query(increase("vllmstack_gpu_ecc_errors_total", GPUS, "gpu, kind"), "GPU {{gpu}} {{kind}}"),
            query(increase("vllmstack_gpu_xid_errors_total", GPUS, "gpu"), "GPU {{gpu}} XID"),
        ],
    )


def processes() -> Timeseries:
    return graph(
        "Processes by GPU",
        "Memory that each GPU's processes hold: what a process keeps after its engine ended is missing to the next.",
        BYTES,
        [query(by_gpu("processes_memory_bytes"), "GPU {{gpu}}")],
    )
