"""The edges: this machine, its Docker Engine, its GPUs and its disk."""
