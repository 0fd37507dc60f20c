"""Writes down what NVML answers to the GPU exporter, for its tests: ``python scripts/record_nvml.py FILE``.

On a machine with a GPU. Handles are numbers in the file, and UUIDs are replaced: a recording names no card.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docker" / "exporters"))

import pynvml
from gpu_exporter import GpuCollector


class Recorder:
    """NVML's module, with every call and its answer kept."""

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}
        self._handles: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(pynvml, name)
        if not name.startswith("nvml") or isinstance(found, int):
            return found
        return lambda *arguments: self._call(name, found, arguments)

    def _call(self, name: str, function: Any, arguments: tuple[Any, ...]) -> Any:
        told = [self._number(one) for one in arguments]
        try:
            answer = function(*arguments)
        except pynvml.NVMLError as error:
            self.calls[f"{name} {told}"] = {"error": error.value}
            raise
        self.calls[f"{name} {told}"] = {"answer": self._plain(name, answer)}
        return answer

    def _number(self, argument: Any) -> Any:
        return argument if isinstance(argument, int | str) else f"gpu {self._handles.index(argument)}"

    def _plain(self, name: str, answer: Any) -> Any:
        if name == "nvmlDeviceGetHandleByIndex":
            self._handles.append(answer)
            return f"gpu {len(self._handles) - 1}"
        if name == "nvmlDeviceGetUUID":
            return "GPU-00000000-0000-0000-0000-000000000000"
        if isinstance(answer, list):
            return [{"usedGpuMemory": one.usedGpuMemory} for one in answer]
        if isinstance(answer, int | float | str) or answer is None:
            return answer
        return {field: getattr(answer, field) for field, *_ in answer._fields_}


def main(file: Path) -> None:
    """One scrape."""
    recorder = Recorder()
    for family in GpuCollector(recorder).collect():
        print(family.name, len(family.samples))
    file.write_text(json.dumps(recorder.calls, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
