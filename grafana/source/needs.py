"""Which panels stay empty, and without what: all others show something on any stack that is under load.

A load test's own panels are filled while one runs, those of the machine where its exporters run.
"""

from grafana.source.queries import TARGET

GPU = "a GPU"
GPU_LIMITS = "a GPU whose limits are known"
LATENCY_TARGETS = "a latency target in the deployment"
SPECULATION = "speculative decoding"

NEEDS = {
    TARGET: LATENCY_TARGETS,
    "Good requests": LATENCY_TARGETS,
    "Alerts over time": "an alert that fires",
    # Energy
    "Tokens a joule": GPU,
    "Energy per million tokens": GPU,
    "Power of all GPUs": GPU,
    "Tokens a joule by model": GPU,
    "Energy per million tokens by model": GPU,
    # Engine
    "Speculative acceptance": SPECULATION,
    "Speculative length": SPECULATION,
    "Speculative acceptance by position": SPECULATION,
    "{{replica}} limit": GPU_LIMITS,
    "Share of the GPU's limits": GPU_LIMITS,
    # Gateway
    "Tokens by key": "API keys",
    "Splits": "a split in the deployment",
    # GPU and host
    "GPU utilization": GPU,
    "GPU memory": GPU,
    "Degrees below slowdown": GPU,
    "Utilization by GPU": GPU,
    "Memory bus by GPU": GPU,
    "Memory by GPU": GPU,
    "Power by GPU": GPU,
    "Temperature by GPU": GPU,
    "Clocks by GPU": GPU,
    "Throttled": GPU,
    "Errors by GPU": GPU,
    "Processes by GPU": GPU,
    "{{service}} CPU": "a container with a CPU limit",
    "Pressure": "a kernel that counts it (CONFIG_PSI)",
    "Certificate expires in": "TLS",
}
"""By a panel's title, or by the legend of one of its queries."""


def need(title: str, legend: str) -> str | None:
    """What a query needs to give anything, if that is not there on every stack."""
    return NEEDS.get(title) or NEEDS.get(legend)
