"""Two constants of the roofline, from times of FlashAttention by itself (`measure_attention.py`).

    python scripts/bench_attention.py [FILE]

A layer's attention takes so much for each tile (a sequence's head of keys), and so much for each head of one token's
keys: lines fitted to the times of each shape. Kernels whose tiles have 192 rows take longer for keys than reading them
does, and tiles of more than 64 rows take longer than those. The constants are the medians of that, for a row.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from vllmstack.prediction.roofline import LEAST_ROWS, tile_rows

RECORD = Path(__file__).resolve().parents[1] / "docs/reference/results/2026-11-22-h200-attention/attention.json"
WIDEST_ROWS = 192
Shape = tuple[int, int, int, int]
"""Head size, heads, heads of keys, window (0: none)."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A shape's attention in one layer."""

    shape: Shape
    tile_seconds: float
    key_seconds: float

    @property
    def rows(self) -> int:
        """Of its tiles."""
        size, heads, kv_heads, window = self.shape
        return tile_rows(size, queries=heads // kv_heads, windowed=window > 0)


def fit(document: dict[str, Any]) -> list[Fitted]:
    """Each shape, by least squares of relative errors."""
    rows: defaultdict[Shape, list[dict[str, Any]]] = defaultdict(list)
    for row in document["decode"]:
        rows[row["head_size"], row["heads"], row["kv_heads"], row["window"]].append(row)
    return [_fitted(shape, rows[shape]) for shape in sorted(rows)]


def _fitted(shape: Shape, rows: list[dict[str, Any]]) -> Fitted:
    tiles = np.array([row["sequences"] * row["kv_heads"] for row in rows], dtype=float)
    keys = tiles * [row["context"] for row in rows]
    terms = np.stack([np.ones(len(rows)), tiles, keys], axis=1) / np.array([[row["seconds"]] for row in rows])
    scale = terms.max(axis=0)
    _, tile, key = np.linalg.lstsq(terms / scale, np.ones(len(rows)), rcond=None)[0] / scale
    return Fitted(shape=shape, tile_seconds=float(tile), key_seconds=float(key))


def key_row_seconds(shapes: list[Fitted]) -> float:
    """For a key and a row, where that and not reading is what takes the time."""
    return median(one.key_seconds for one in shapes if one.rows == WIDEST_ROWS) / WIDEST_ROWS


def tile_row_seconds(shapes: list[Fitted]) -> float:
    """For a tile and a row beyond 64, against the head size of 128 without a window and as many heads of keys."""
    least = {one.shape[2]: one.tile_seconds for one in shapes if one.shape[0] == 128 and one.rows == LEAST_ROWS}
    return median(
        (one.tile_seconds - least[one.shape[2]]) / (one.rows - LEAST_ROWS)
        for one in shapes
        if one.rows > LEAST_ROWS and one.shape[2] in least
    )


def main() -> int:
    """Prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=RECORD)
    shapes = fit(json.loads(parser.parse_args().file.read_text()))
    print(f"{'head size, heads, window':26} {'rows':>5} {'ns a tile':>10} {'ns a key':>10} {'TB/s':>6}")
    for one in shapes:
        size, heads, kv_heads, window = one.shape
        name = f"{size}, {heads} of {kv_heads}" + (f", {window}" if window else "")
        rate = 4 * size / one.key_seconds / 1e12
        print(f"{name:26} {one.rows:5} {one.tile_seconds * 1e9:10.1f} {one.key_seconds * 1e9:10.4f} {rate:6.2f}")
    print(f"key_row_seconds: {key_row_seconds(shapes):.2g}")
    print(f"tile_row_seconds: {tile_row_seconds(shapes):.2g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
