"""GPU and host: does the machine hold: GPUs, containers, memory, disks?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from grafana.source import gpus
from grafana.source.board import dashboard, label_variable
from grafana.source.gpus import by_gpu
from grafana.source.queries import CONTAINERS, GPUS, HOST, increase, query, rate, where
from grafana.source.shapes import (
    BYTES,
    BYTES_PER_SECOND,
    CELSIUS,
    COUNT,
    GREEN,
    RATIO,
    RED,
    SECONDS,
    YELLOW,
    Stat,
    Timeline,
    Timeseries,
    graph,
    limited,
    opens,
    several,
    stacked,
    stat,
    steps,
    timeline,
)

BUSY_CPU = where(HOST, 'mode!="idle"')
# What lies in memory, or is part of another file system, cannot fill up a disk.
DISKS = where(HOST, 'fstype!~"tmpfs|ramfs|overlay|squashfs"')
# What lies on other disks is counted there; partitions the exporter leaves out by itself.
DEVICES = where(HOST, 'device!~"dm-.+|md.+|sr.+"')
NETWORK = where(HOST, 'device!="lo"')


def by_service(metric: str) -> str:
    return f"sum by (service) (vllmstack_container_{metric}{CONTAINERS})"


def limit(metric: str) -> str:
    """Where a container has none, there is nothing to divide by."""
    return f"(sum by (service) (vllmstack_container_{metric}{CONTAINERS}) > 0)"


def host_cpu_ratio() -> str:
    return f"{rate('node_cpu_seconds_total', BUSY_CPU)} / {rate('node_cpu_seconds_total', HOST)}"


def host_memory_ratio() -> str:
    return f"1 - node_memory_MemAvailable_bytes{HOST} / node_memory_MemTotal_bytes{HOST}"


# Top row: does the machine hold?


def gpus_now() -> Stat:
    panel = stat(
        "GPUs",
        "GPUs that the driver shows, and those of them whose clocks something holds down.",
        COUNT,
        [
            query(f"count(vllmstack_gpu_info{GPUS}) or vector(0)", "found"),
            query(f"count(max by (gpu) (vllmstack_gpu_throttled{GPUS}) == 1) or vector(0)", "throttled"),
        ],
    )
    return several(panel)


def utilization_now() -> Stat:
    return stat(
        "GPU utilization",
        "Share of time that any kernel ran, of the least busy GPU: what it did then the Engine dashboard tells.",
        RATIO,
        [query(f"min(vllmstack_gpu_utilization_ratio{GPUS})", "lowest")],
    )


def gpu_memory_now() -> Stat:
    used, total = by_gpu("memory_used_bytes"), by_gpu("memory_total_bytes")
    return stat(
        "GPU memory",
        "Share of its memory that is taken, of the fullest GPU: vLLM takes what it may at its start.",
        RATIO,
        [query(f"max({used} / {total})", "fullest")],
    )


def temperature_now() -> Stat:
    slowdown = by_gpu("temperature_slowdown_celsius")
    return stat(
        "Degrees below slowdown",
        "How far the hottest GPU is from where it slows down.",
        CELSIUS,
        [query(f"min({slowdown} - {by_gpu('temperature_celsius')})", "left")],
    ).thresholds(steps(RED, (3, YELLOW), (8, GREEN)))


def host_cpu_now() -> Stat:
    return stat(
        "Host CPU",
        "Share of the machine's CPU time that was not idle.",
        RATIO,
        [query(host_cpu_ratio(), "used")],
    ).thresholds(steps(GREEN, (0.85, YELLOW), (0.95, RED)))


def host_memory_now() -> Stat:
    return stat(
        "Host memory",
        "Share of the machine's memory that is not available to more.",
        RATIO,
        [query(host_memory_ratio(), "used")],
    ).thresholds(steps(GREEN, (0.85, YELLOW), (0.95, RED)))


# Containers


def container_cpu() -> Timeseries:
    return graph(
        "CPU by service",
        "Cores that each container uses.",
        COUNT,
        [query(rate("vllmstack_container_cpu_seconds_total", CONTAINERS, "service"), "{{service}}")],
    )


def container_throttled() -> Timeseries:
    return graph(
        "Held back by CPU limits",
        "Seconds a second that a container's threads, taken together, waited because it was at its CPU limit.",
        COUNT,
        [query(rate("vllmstack_container_cpu_throttled_seconds_total", CONTAINERS, "service"), "{{service}}")],
    )


def container_memory() -> Timeseries:
    return graph(
        "Memory by service",
        "Memory of each container that cannot be taken back at once.",
        BYTES,
        [query(by_service("memory_bytes"), "{{service}}")],
    )


def container_limits() -> Timeseries:
    cpu = rate("vllmstack_container_cpu_seconds_total", CONTAINERS, "service")
    panel = graph(
        "Share of limits by service",
        "Memory and CPU over the container's limits; at 100 % of its memory the kernel ends it.",
        RATIO,
        [
            query(f"{by_service('memory_bytes')} / {limit('memory_limit_bytes')}", "{{service}} memory"),
            query(f"{cpu} / {limit('cpu_limit_cores')}", "{{service}} CPU"),
        ],
    )
    return limited(panel, (0.9, YELLOW), (1, RED))


def oom_kills() -> Timeseries:
    return graph(
        "Killed for memory",
        "Processes of a container that the kernel ended since the point before, because its memory was full.",
        COUNT,
        [query(increase("vllmstack_container_oom_kills_total", CONTAINERS, "service"), "{{service}}")],
    )


def container_processes() -> Timeseries:
    return graph(
        "Processes by service",
        "Processes and threads of each container.",
        COUNT,
        [query(by_service("processes"), "{{service}}")],
    )


# Host


def host_cpu() -> Timeseries:
    panel = graph(
        "Host CPU by mode",
        "Cores of the machine by what they do; iowait is waiting for disks, steal what a hypervisor keeps.",
        COUNT,
        [query(rate("node_cpu_seconds_total", BUSY_CPU, "mode"), "{{mode}}")],
    )
    return stacked(panel)


def host_memory() -> Timeseries:
    total = f"node_memory_MemTotal_bytes{HOST}"
    return graph(
        "Host memory in use",
        "Memory that is not available to more, and what there is.",
        BYTES,
        [query(f"{total} - node_memory_MemAvailable_bytes{HOST}", "used"), query(total, "memory limit")],
    )


def disks() -> Timeseries:
    free = f"max by (mountpoint) (node_filesystem_avail_bytes{DISKS})"
    size = f"max by (mountpoint) (node_filesystem_size_bytes{DISKS})"
    panel = graph(
        "Disk space used",
        "Share of each file system that is used: models, images and Prometheus' samples grow.",
        RATIO,
        [query(f"1 - {free} / {size}", "{{mountpoint}}")],
    ).max(1)
    return limited(panel, (0.85, YELLOW), (0.95, RED))


def disk_traffic() -> Timeseries:
    return graph(
        "Disk traffic",
        "Bytes a second read and written: an engine that starts reads its weights.",
        BYTES_PER_SECOND,
        [
            query(rate("node_disk_read_bytes_total", DEVICES, "device"), "{{device}} read"),
            query(rate("node_disk_written_bytes_total", DEVICES, "device"), "{{device}} written"),
        ],
    )


def network() -> Timeseries:
    return graph(
        "Network traffic",
        "Bytes a second received and sent by each interface.",
        BYTES_PER_SECOND,
        [
            query(rate("node_network_receive_bytes_total", NETWORK, "device"), "{{device}} received"),
            query(rate("node_network_transmit_bytes_total", NETWORK, "device"), "{{device}} sent"),
        ],
    )


def pressure() -> Timeseries:
    resources = {"CPU": "cpu_waiting", "memory": "memory_waiting", "disk": "io_waiting"}
    return graph(
        "Pressure",
        "Share of time that some process waited for CPU, memory or disk.",
        RATIO,
        [query(rate(f"node_pressure_{name}_seconds_total", HOST), title) for title, name in resources.items()],
    ).max(1)


# The stack's own


def scrapes() -> Timeline:
    return timeline(
        "Scrapes",
        "Whether Prometheus reaches what it asks for metrics; a load test is there only while it runs.",
        {0: ("down", RED), 1: ("up", GREEN)},
        [query('min by (job) (up{job=~".+"})', "{{job}}")],
    )


def certificate() -> Timeseries:
    panel = graph(
        "Certificate expires in",
        "Time until the gateway's certificate is no longer valid.",
        SECONDS,
        [query('vllmstack_certificate_expires_timestamp_seconds{job="containers"} - time()', "left")],
    )
    return limited(panel, (7 * 86400, YELLOW), (30 * 86400, GREEN), below=RED)


def load() -> Timeseries:
    return graph(
        "Load",
        "Processes that run or wait for CPU or disk, mean of the last minute, and the machine's cores.",
        COUNT,
        [
            query(f"node_load1{HOST}", "load"),
            query(f"count(count by (cpu) (rate(node_cpu_seconds_total{HOST}[$__rate_interval])))", "cores limit"),
        ],
    )


def gpu_host() -> Dashboard:
    return dashboard(
        "GPU and host",
        "Does the machine hold: GPUs, containers, memory, disks?",
        [
            gpus_now(),
            opens(utilization_now(), "engine"),
            gpu_memory_now(),
            temperature_now(),
            host_cpu_now(),
            host_memory_now(),
        ],
        {
            "GPUs": [
                gpus.utilization(),
                gpus.memory_bus(),
                gpus.memory(),
                gpus.power(),
                gpus.temperature(),
                gpus.clocks(),
                gpus.throttled(),
                gpus.errors(),
                gpus.processes(),
            ],
            "Containers": [
                container_cpu(),
                container_throttled(),
                container_memory(),
                container_limits(),
                oom_kills(),
                container_processes(),
            ],
            "Host": [host_cpu(), host_memory(), load(), disks(), disk_traffic(), network()],
            "Stack": [pressure(), scrapes(), certificate()],
        },
        variables=[label_variable("gpu", 'label_values(vllmstack_gpu_info{job="gpu"}, gpu)')],
    )
