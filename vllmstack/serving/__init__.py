"""The same models in Python, without containers, and clients of whatever serves them.

Nothing is imported before it is used: ``import vllmstack.serving`` needs neither vLLM nor openai.
docs/guides/python.md shows each with an example.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllmstack.serving import presets
    from vllmstack.serving.client import Answer, AsyncClient, query_server
    from vllmstack.serving.conversation import Conversation, server_counter
    from vllmstack.serving.measure import Distribution, Latency, Throughput, measure_latency, measure_throughput
    from vllmstack.serving.memory import calculate_memory_usage
    from vllmstack.serving.offline import create_llm, generate_offline, llm_counter
    from vllmstack.serving.presets import create_sampling_params
    from vllmstack.serving.server import Server, start_server

__all__ = [
    "Answer",
    "AsyncClient",
    "Conversation",
    "Distribution",
    "Latency",
    "Server",
    "Throughput",
    "calculate_memory_usage",
    "create_llm",
    "create_sampling_params",
    "generate_offline",
    "llm_counter",
    "measure_latency",
    "measure_throughput",
    "presets",
    "query_server",
    "server_counter",
    "start_server",
]

_WHERE = {
    "client": ("Answer", "AsyncClient", "query_server"),
    "conversation": ("Conversation", "server_counter"),
    "measure": ("Distribution", "Latency", "Throughput", "measure_latency", "measure_throughput"),
    "memory": ("calculate_memory_usage",),
    "offline": ("create_llm", "generate_offline", "llm_counter"),
    "presets": ("create_sampling_params",),
    "server": ("Server", "start_server"),
}


def __getattr__(name: str) -> Any:
    if name == "presets":
        return importlib.import_module(f"{__name__}.presets")
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
