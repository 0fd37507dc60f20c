"""Test files for promtool, made from tables: what is the same for each latency or alert is written once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RULE_FILES = [f"/clone/prometheus/rules/{name}.yml" for name in ("recording", "latency", "slo", "alerts")]

Series = dict[str, str]
"""Values by series, in promtool's notation."""


@dataclass(frozen=True, kw_only=True)
class AlertCase:
    """One alert: series that make it fire, how long that takes, and series that are near and must not."""

    alert: str
    bad: Series
    not_yet: str
    """A time at which it does not fire yet."""
    fires: str
    """A time at which it does."""
    good: Series
    labels: Sequence[Mapping[str, str]] = field(default_factory=lambda: [{}])
    """Of the alerts that fire, beside name and severity."""
    severity: str = "warn"
    interval: str = "15s"
    good_at: str | None = None
    """When it still must not fire; as long as the bad one takes if left out."""

    def document(self) -> dict[str, Any]:
        """For promtool."""
        firing = f'ALERTS{{alertname="{self.alert}", alertstate="firing"}}'
        expected = [
            {
                "labels": "ALERTS"
                + _braces({"alertname": self.alert, "alertstate": "firing", "severity": self.severity, **more}),
                "value": 1,
            }
            for more in self.labels
        ]
        return {
            "rule_files": RULE_FILES,
            "evaluation_interval": self.interval,
            "tests": [
                {
                    "name": f"{self.alert} fires, and not at once",
                    "interval": self.interval,
                    "input_series": _input(self.bad),
                    "promql_expr_test": [
                        {"expr": firing, "eval_time": self.not_yet, "exp_samples": []},
                        {"expr": firing, "eval_time": self.fires, "exp_samples": expected},
                    ],
                },
                {
                    "name": f"{self.alert} does not fire",
                    "interval": self.interval,
                    "input_series": _input(self.good),
                    "promql_expr_test": [{"expr": firing, "eval_time": self.good_at or self.fires, "exp_samples": []}],
                },
            ],
        }


def _input(series: Series) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def _braces(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


GATEWAY, A1 = 'job="gateway"', 'model="a", replica="a-1"'
STATE = f"vllmstack_gateway_replica_state{{{GATEWAY}, {A1}"
EJECTED = f"vllmstack_gateway_ejections_total{{{GATEWAY}, {A1}"
REQUESTS = f'vllmstack_gateway_requests_total{{{GATEWAY}, model="a"'
QUEUED = f'vllmstack_gateway_queued_requests{{{GATEWAY}, model="a", priority="interactive"}}'
GPU0 = 'job="gpu", gpu="0", uuid="x"'
DISK = 'job="host", fstype="ext4", device="/dev/sda", mountpoint="/data"'


def budget_case(alert: str, slo: str, bad: Series, good: Series, *, burn: str = "fast") -> AlertCase:
    """A missed target. The deployment allows 5 % of requests to be too slow, and 0.1 % of the rest."""
    budget = "0.05" if slo in ("ttft", "tpot") else "0.001"
    constant = {f'model:slo_budget:ratio{{model="a", slo="{slo}"}}': f"{budget}x2000"}
    fires = {"fast": "6m", "slow": "30m", "lasting": "90m"}
    return AlertCase(
        alert=alert,
        bad=bad | constant,
        good=good | constant,
        not_yet="1m",
        fires=fires[burn],
        labels=[{"burn": burn, "model": "a", "slo": slo}],
        severity="warn" if burn == "lasting" else "page",
        interval="1m",
    )


def shares(slo: str, **by_window: float) -> dict[str, str]:
    """Recorded shares of bad requests, as a deployment's targets.yml records them."""
    return {
        f'model:slo_bad:ratio_rate{window.removeprefix("w")}{{model="a", slo="{slo}"}}': f"{share}x2000"
        for window, share in by_window.items()
    }


def slow_case(alert: str, slo: str, *, bad: float, good: float) -> AlertCase:
    """The last half hour is as bad as the last six, or better."""
    return budget_case(alert, slo, shares(slo, w30m=bad, w6h=bad), shares(slo, w30m=good, w6h=bad), burn="slow")


def lasting_case(alert: str, slo: str, *, bad: float, good: float) -> AlertCase:
    """The last three days are as bad as the last six hours, or better."""
    return budget_case(alert, slo, shares(slo, w6h=bad, w3d=bad), shares(slo, w6h=bad, w3d=good), burn="lasting")


ALERTS: list[AlertCase] = [
    AlertCase(
        alert="ModelUnavailable",
        severity="page",
        bad={f'vllmstack_gateway_model_available{{{GATEWAY}, model="a", instance="gateway:9113"}}': "1x4 0x20"},
        not_yet="2m",
        fires="3m",
        # A restart that is over within half a minute.
        good={f'vllmstack_gateway_model_available{{{GATEWAY}, model="a", instance="gateway:9113"}}': "1x4 0 0 1x20"},
        labels=[{"instance": "gateway:9113", "job": "gateway", "model": "a"}],
    ),
    AlertCase(
        alert="GatewayDown",
        severity="page",
        bad={f'up{{{GATEWAY}, instance="gateway:9113"}}': "1x4 0x20"},
        not_yet="1m30s",
        fires="3m",
        good={f'up{{{GATEWAY}, instance="gateway:9113"}}': "1x4 0 1x20"},
        labels=[{"instance": "gateway:9113", "job": "gateway"}],
    ),
    AlertCase(
        alert="ReplicaDown",
        bad={f'{STATE}, state="dead"}}': "0x4 1x20", f'{STATE}, state="serving"}}': "1x4 0x20"},
        not_yet="1m15s",
        fires="1m45s",
        # Drained by a restart, or loading for the first time.
        good={f'{STATE}, state="dead"}}': "0x30", f'{STATE}, state="draining"}}': "1x30"},
        labels=[{"model": "a", "replica": "a-1"}],
    ),
    AlertCase(
        alert="ReplicaNotStarting",
        bad={f'{STATE}, state="starting"}}': "1x300"},
        not_yet="40m",
        fires="46m",
        good={f'{STATE}, state="starting"}}': "1x150 0x150"},
        labels=[{"model": "a", "replica": "a-1"}],
    ),
    AlertCase(
        alert="ReplicaHung",
        bad={f'{EJECTED}, reason="silent"}}': "0x8 1x20", f'{EJECTED}, reason="refused"}}': "0x30"},
        not_yet="2m",
        fires="2m30s",
        # It died: that is no hang.
        good={f'{EJECTED}, reason="silent"}}': "0x30", f'{EJECTED}, reason="refused"}}': "0x8 1x20"},
        labels=[{"model": "a", "replica": "a-1"}],
    ),
    AlertCase(
        alert="ReplicaFlapping",
        bad={f'{EJECTED}, reason="refused"}}': "0x8 1x8 2x8 3x8 4x8 5x40"},
        not_yet="6m",
        fires="12m",
        # Two in half an hour.
        good={f'{EJECTED}, reason="refused"}}': "0x8 1x8 2x100"},
        labels=[{"model": "a", "replica": "a-1"}],
    ),
    AlertCase(
        alert="RequestsShed",
        bad={
            f'vllmstack_gateway_sheds_total{{{GATEWAY}, model="a", reason="full"}}': "0x8 0+5x40",
            f'{REQUESTS}, replica="a-1", code="200"}}': "0+100x48",
            f'{REQUESTS}, replica="none", code="429"}}': "0x8 0+5x40",
        },
        not_yet="2m15s",
        fires="5m",
        # One in a thousand.
        good={
            f'vllmstack_gateway_sheds_total{{{GATEWAY}, model="a", reason="full"}}': "0x8 0+1x40",
            f'{REQUESTS}, replica="a-1", code="200"}}': "0+1000x48",
        },
        labels=[{"model": "a"}],
    ),
    AlertCase(
        alert="QueueGrowing",
        bad={QUEUED: "0x4 1+1x40"},
        not_yet="3m",
        fires="5m",
        # It comes and goes.
        good={QUEUED: "0x4 1+1x4 0x2 1+1x4 0x2 1+1x4 0x2 1+1x4 0"},
        labels=[{"model": "a"}],
    ),
    AlertCase(
        alert="KvCacheFull",
        # Each look at the cache comes after a preemption, when there is room again.
        bad={
            f'vllm:kv_cache_usage_perc{{job="engines", {A1}, engine="0"}}': "0.5x8 0.76x40",
            f'vllm:num_preemptions_total{{job="engines", {A1}, engine="0"}}': "0x8 0+1x40",
        },
        not_yet="2m",
        fires="4m",
        # Full, and nobody suffers.
        good={
            f'vllm:kv_cache_usage_perc{{job="engines", {A1}, engine="0"}}': "0.99x48",
            f'vllm:num_preemptions_total{{job="engines", {A1}, engine="0"}}': "3x48",
        },
        labels=[{"model": "a", "replica": "a-1"}],
    ),
    AlertCase(
        alert="GpuThrottled",
        bad={f'vllmstack_gpu_throttled{{{GPU0}, reason="hardware_thermal"}}': "0x20 1x60"},
        not_yet="6m",
        fires="15m",
        # At its power limit under load, as it should be.
        good={
            f'vllmstack_gpu_throttled{{{GPU0}, reason="power_cap"}}': "1x80",
            f'vllmstack_gpu_throttled{{{GPU0}, reason="hardware_thermal"}}': "0x80",
        },
        labels=[{"gpu": "0"}],
    ),
    AlertCase(
        alert="GpuHot",
        bad={
            f"vllmstack_gpu_temperature_celsius{{{GPU0}}}": "60x4 85x40",
            f"vllmstack_gpu_temperature_slowdown_celsius{{{GPU0}}}": "89x44",
        },
        not_yet="2m30s",
        fires="4m",
        good={
            f"vllmstack_gpu_temperature_celsius{{{GPU0}}}": "83x44",
            f"vllmstack_gpu_temperature_slowdown_celsius{{{GPU0}}}": "89x44",
        },
        labels=[{"gpu": "0"}],
    ),
    AlertCase(
        alert="GpuXidError",
        bad={f"vllmstack_gpu_xid_errors_total{{{GPU0}}}": "0x8 1x20"},
        not_yet="2m",
        fires="2m30s",
        good={f"vllmstack_gpu_xid_errors_total{{{GPU0}}}": "3x30"},
        labels=[{"gpu": "0"}],
    ),
    AlertCase(
        alert="GpuMemoryErrors",
        bad={f'vllmstack_gpu_ecc_errors_total{{{GPU0}, kind="uncorrected"}}': "0x8 1x20"},
        not_yet="2m",
        fires="2m30s",
        good={
            f'vllmstack_gpu_ecc_errors_total{{{GPU0}, kind="corrected"}}': "0+1x30",
            f'vllmstack_gpu_ecc_errors_total{{{GPU0}, kind="uncorrected"}}': "0x30",
        },
        labels=[{"gpu": "0"}],
    ),
    AlertCase(
        alert="GpuMemoryNearlyFull",
        bad={
            f"vllmstack_gpu_memory_used_bytes{{{GPU0}}}": "90x4 99x40",
            f"vllmstack_gpu_memory_total_bytes{{{GPU0}}}": "100x44",
        },
        not_yet="5m",
        fires="7m",
        # What vLLM takes by default.
        good={
            f"vllmstack_gpu_memory_used_bytes{{{GPU0}}}": "95x44",
            f"vllmstack_gpu_memory_total_bytes{{{GPU0}}}": "100x44",
        },
        labels=[{"gpu": "0"}],
    ),
    AlertCase(
        alert="GpuLost",
        bad={
            f'vllmstack_gpu_info{{{GPU0}, name="H200"}}': "1x8 stale _x40",
            'vllmstack_gpu_nvml_up{job="gpu"}': "1x8 0x40",
        },
        not_yet="2m45s",
        fires="5m",
        # The exporter stopped: that says nothing of the GPU.
        good={
            f'vllmstack_gpu_info{{{GPU0}, name="H200"}}': "1x8 stale _x40",
            'vllmstack_gpu_nvml_up{job="gpu"}': "1x8 stale _x40",
        },
        labels=[{"gpu": "0"}],
    ),
    AlertCase(
        alert="DiskNearlyFull",
        bad={f"node_filesystem_avail_bytes{{{DISK}}}": "20x4 4x40", f"node_filesystem_size_bytes{{{DISK}}}": "100x44"},
        not_yet="2m30s",
        fires="4m",
        good={f"node_filesystem_avail_bytes{{{DISK}}}": "6x44", f"node_filesystem_size_bytes{{{DISK}}}": "100x44"},
        labels=[{"device": "/dev/sda", "fstype": "ext4", "job": "host", "mountpoint": "/data"}],
    ),
    AlertCase(
        alert="HostMemoryLow",
        bad={
            'node_memory_MemAvailable_bytes{job="host"}': "20x4 4x40",
            'node_memory_MemTotal_bytes{job="host"}': "100x44",
        },
        not_yet="2m30s",
        fires="4m",
        good={
            'node_memory_MemAvailable_bytes{job="host"}': "6x44",
            'node_memory_MemTotal_bytes{job="host"}': "100x44",
        },
        labels=[{"job": "host"}],
    ),
    AlertCase(
        alert="ContainerOutOfMemory",
        bad={
            'vllmstack_container_oom_kills_total{job="containers", service="engine-a-1"}': "0x8 1x20",
            'node_vmstat_oom_kill{job="host", instance="node-exporter:9100"}': "0x8 1x20",
        },
        not_yet="2m",
        fires="2m30s",
        good={
            'vllmstack_container_oom_kills_total{job="containers", service="engine-a-1"}': "4x30",
            'node_vmstat_oom_kill{job="host", instance="node-exporter:9100"}': "9x30",
        },
        labels=[{"service": "engine-a-1"}],
    ),
    AlertCase(
        alert="ContainerOutOfMemory",
        # Its count went with the container's main process.
        bad={
            'vllmstack_container_oom_kills_total{job="containers", service="engine-a-1"}': "0x30",
            'node_vmstat_oom_kill{job="host", instance="node-exporter:9100"}': "0x8 1x20",
        },
        not_yet="2m",
        fires="2m30s",
        good={'node_vmstat_oom_kill{job="host", instance="node-exporter:9100"}': "9x30"},
        labels=[{"instance": "node-exporter:9100", "job": "host"}],
    ),
    AlertCase(
        alert="CertificateExpires",
        # Time begins at 0 here: 14 days and a minute, and twice that.
        bad={'vllmstack_certificate_expires_timestamp_seconds{job="containers"}': "1209660x20"},
        not_yet="30s",
        fires="2m",
        good={'vllmstack_certificate_expires_timestamp_seconds{job="containers"}': "2419200x20"},
        labels=[{"job": "containers"}],
    ),
    AlertCase(
        alert="TargetDown",
        bad={
            'up{job="host", instance="node-exporter:9100"}': "1x4 0x20",
            f'up{{job="engines", {A1}, instance="a-1:8000"}}': "0x24",
            f"vllmstack_gateway_replica_takes_requests{{{GATEWAY}, {A1}}}": "1x24",
        },
        not_yet="45s",
        fires="3m",
        # A replica that the gateway does not ask either, and a load test that has ended.
        good={
            'up{job="host", instance="node-exporter:9100"}': "1x4 0 1x20",
            f'up{{job="engines", {A1}, instance="a-1:8000"}}': "0x24",
            f"vllmstack_gateway_replica_takes_requests{{{GATEWAY}, {A1}}}": "0x24",
            'up{job="loadtest", instance="loadtest:9464"}': "0x24",
        },
        labels=[
            {"instance": "a-1:8000", "job": "engines", "model": "a", "replica": "a-1"},
            {"instance": "node-exporter:9100", "job": "host"},
        ],
    ),
    AlertCase(
        alert="TargetDown",
        # Where the exporter has no container it is no target that could be down.
        bad={'replica:gpu:info{model="a", replica="a-1", gpu="0"}': "1x24"},
        not_yet="45s",
        fires="3m",
        good={
            'replica:gpu:info{model="a", replica="a-1", gpu="0"}': "1x24",
            'up{job="gpu", instance="gpu-exporter:9400"}': "1x24",
        },
        labels=[{"job": "gpu"}],
    ),
    AlertCase(
        alert="RulesFailing",
        bad={'prometheus_rule_evaluation_failures_total{job="prometheus", rule_group="g"}': "0x4 0+1x20"},
        not_yet="1m45s",
        fires="4m",
        good={
            'prometheus_rule_evaluation_failures_total{job="prometheus", rule_group="g"}': "7x24",
            'prometheus_config_last_reload_successful{job="prometheus"}': "1x24",
        },
        labels=[{"rule_group": "g"}],
    ),
    AlertCase(
        alert="RulesFailing",
        bad={'prometheus_config_last_reload_successful{job="prometheus"}': "1x4 0x20"},
        not_yet="1m45s",
        fires="4m",
        # It was mended within half a minute.
        good={'prometheus_config_last_reload_successful{job="prometheus"}': "1x4 0 0 1x20"},
        labels=[{"job": "prometheus"}],
    ),
    AlertCase(
        alert="AlertsNotDelivered",
        bad={
            'prometheus_notifications_dropped_total{job="prometheus"}': "0x24",
            'alertmanager_notifications_failed_total{job="alertmanager", integration="webhook"}': "0x4 0+1x20",
        },
        not_yet="1m45s",
        fires="4m",
        good={
            'prometheus_notifications_dropped_total{job="prometheus"}': "2x24",
            'alertmanager_notifications_failed_total{job="alertmanager", integration="webhook"}': "2x24",
        },
    ),
    budget_case(
        "TtftTargetMissed",
        "ttft",
        bad=shares("ttft", w5m=0.8, w1h=0.8),
        # It is over: the last 5 minutes are good.
        good=shares("ttft", w5m=0.01, w1h=0.8),
    ),
    slow_case("TtftTargetMissed", "ttft", bad=0.35, good=0.2),
    lasting_case("TtftTargetMissed", "ttft", bad=0.06, good=0.04),
    # Of an hour only half was bad.
    budget_case("TpotTargetMissed", "tpot", shares("tpot", w5m=0.8, w1h=0.8), shares("tpot", w5m=0.8, w1h=0.5)),
    slow_case("TpotTargetMissed", "tpot", bad=0.35, good=0.2),
    lasting_case("TpotTargetMissed", "tpot", bad=0.06, good=0.04),
    budget_case("ErrorTargetMissed", "errors", shares("errors", w5m=0.02, w1h=0.02), shares("errors", w5m=0, w1h=0.02)),
    slow_case("ErrorTargetMissed", "errors", bad=0.007, good=0.005),
    lasting_case("ErrorTargetMissed", "errors", bad=0.002, good=0.0005),
    budget_case(
        "AvailabilityTargetMissed", "availability",
        shares("availability", w5m=0.02, w1h=0.02), shares("availability", w5m=0, w1h=0.02),
    ),
    slow_case("AvailabilityTargetMissed", "availability", bad=0.007, good=0),
    lasting_case("AvailabilityTargetMissed", "availability", bad=0.002, good=0),
]  # fmt: skip

LATENCIES = (
    "time_to_first_token_seconds",
    "request_time_per_output_token_seconds",
    "inter_token_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "e2e_request_latency_seconds",
)
REPLICAS = {"a-1": 0.1, "a-2": 2, "b-1": 0.1}
"""Each ends 10 requests a second: within 0.1 s, or in 1 to 2 s."""
BOUNDS = ("0.1", "1", "2", "+Inf")

QUANTILES: dict[str, dict[str, tuple[float, float, float]]] = {
    "replica": {
        'model="a", replica="a-1"': (0.05, 0.095, 0.099),
        'model="a", replica="a-2"': (1.5, 1.95, 1.99),
        'model="b", replica="b-1"': (0.05, 0.095, 0.099),
    },
    # Half of model a's 20 are within 0.1 s; the 19th lies nine tenths into the bucket from 1 to 2.
    "model": {'model="a"': (0.1, 1.9, 1.98), 'model="b"': (0.05, 0.095, 0.099)},
    # 20 of 30 within 0.1 s.
    "stack": {"": (0.075, 1.85, 1.97)},
}
"""p50, p95 and p99 by level and labels. Means of replicas' own quantiles would be others."""

BELOW = {
    "replica": {
        'model="a", replica="a-1"': (10, 10, 10, 10),
        'model="a", replica="a-2"': (0, 0, 10, 10),
        'model="b", replica="b-1"': (10, 10, 10, 10),
    },
    "model": {'model="a"': (10, 10, 20, 20), 'model="b"': (10, 10, 10, 10)},
    "stack": {"": (20, 20, 30, 30)},
}  # fmt: skip
"""Requests a second below each bound."""


def _rounded(record: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums of floats differ in their last digits by the order of the summands."""
    return {"expr": f"round({record}, 0.0001)", "eval_time": "10m", "exp_samples": samples}


def latency_document(metric: str) -> dict[str, Any]:
    """For promtool: the buckets and quantiles of one latency at all levels."""
    series = {
        f'vllm:{metric}_bucket{{job="engines", model="{replica[0]}", replica="{replica}", le="{bound}"}}': (
            "0+150x40" if bound == "+Inf" or float(bound) >= slowest else "0x40"
        )
        for replica, slowest in REPLICAS.items()
        for bound in BOUNDS
    }
    tests = []
    for level, of in QUANTILES.items():
        for position, name in enumerate(("p50", "p95", "p99")):
            record = f"{level}:{metric}:{name}_rate5m"
            samples = [{"labels": f"{{{labels}}}", "value": values[position]} for labels, values in of.items()]
            tests.append(_rounded(record, samples))
        record = f"{level}:{metric}_bucket:rate5m"
        samples = [
            {"labels": f'{{{f"{labels}, " if labels else ""}le="{bound}"}}', "value": rate}
            for labels, rates in BELOW[level].items()
            for bound, rate in zip(BOUNDS, rates, strict=True)
        ]
        tests.append(_rounded(record, samples))
    return {
        "rule_files": RULE_FILES,
        "evaluation_interval": "15s",
        "tests": [{"name": metric, "interval": "15s", "input_series": _input(series), "promql_expr_test": tests}],
    }
