"""Paper and pens: one look for all charts, drawn wide and narrow as SVG, and once as PNG."""

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In a container the home is often read-only, and matplotlib would warn on standard error.
if "MPLCONFIGDIR" not in os.environ and not os.access(Path.home(), os.W_OK):
    os.environ["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir()) / f"matplotlib-{os.getuid()}")

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from loadtest.report import wording

# Okabe and Ito's palette, told apart with every kind of colour blindness (Color Universal Design, 2008).
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#A2427F", "#56B4E9"
VARIANTS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
INK, QUIET, FAINT, GRID = "#1b1f24", "#59636e", "#8c959f", "#e4e8ec"
SHADE = "#f1f3f5"

WIDE = (580, 340)
NARROW = (372, 300)
"""Width and height in CSS pixels: half of a wide page, and a telephone."""
_MOST_DECADES = 1e4
"""On a logarithmic axis: a clock's zeros, which are kept as a tenth of a microsecond, must not stretch it."""
_HEAD, _FOOT, _ROW = 54, 44, 22
"""Pixels above the axes, below them, and of each line where they have lines."""
LOGARITHMIC_FROM = 30
"""Ratio of the largest value to the smallest."""
_TEXT = 12.0
_PNG_SCALE = 2

_STYLE: Any = {
    "figure.dpi": 72,  # one point is one pixel of the drawing
    "font.family": ["DejaVu Sans"],
    "font.size": _TEXT,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": QUIET,
    "axes.labelsize": _TEXT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.labelsize": _TEXT - 1,
    "ytick.labelsize": _TEXT - 1,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "xtick.minor.size": 2,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "text.parse_math": False,  # names come from folders and models: a $ in them is a $
    "path.simplify": True,
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What to draw, and the words around it."""

    name: str
    """File name without its ending."""
    title: str
    subtitle: str
    """What the axes show, with units."""
    caption: str
    """How to read it."""
    draw: Callable[["Sheet"], None]
    labelled: bool = True
    """Labels stand right of the axes and need room."""
    rows: int = 0
    """Lines of text left of the axes, each with its own height; 0: the axes have an ordinary vertical scale."""


@dataclass(frozen=True)
class Sheet:
    """The axes to draw on."""

    axes: Axes
    width: int
    """CSS pixels."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart, drawn."""

    name: str
    title: str
    subtitle: str
    caption: str
    wide: str
    """SVG to stand inside HTML."""
    narrow: str
    file: str
    """SVG to stand alone."""
    png: Callable[[], bytes]
    """Drawn when it is asked for: most charts of a sweep are only in the page."""


def drawn(chart: Chart) -> Drawing:
    """Draws one chart; nothing outside it changes."""
    wide = svg(chart, size_of(chart, WIDE))
    return Drawing(
        name=chart.name,
        title=chart.title,
        subtitle=chart.subtitle,
        caption=chart.caption,
        wide=_inline(wide),
        narrow=_inline(svg(chart, size_of(chart, NARROW))),
        file=wide,
        png=lambda: png(chart),
    )


def size_of(chart: Chart, usual: tuple[int, int]) -> tuple[int, int]:
    """Width and height: the usual ones, or as high as the chart's lines of text need."""
    return (usual[0], _HEAD + _FOOT + _ROW * chart.rows) if chart.rows else usual


def _figure(chart: Chart, size: tuple[int, int]) -> Figure:
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    left, right, top, bottom = 52, 24, _HEAD, _FOOT
    if chart.rows:
        left = 108
    if chart.labelled:
        right = 92 if width == WIDE[0] else 76
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    figure.text(8 / width, 1 - 18 / height, chart.title, fontsize=_TEXT + 2, fontweight="bold", va="center")
    figure.text(8 / width, 1 - 36 / height, chart.subtitle, fontsize=_TEXT - 0.5, color=QUIET, va="center")
    chart.draw(Sheet(axes, width))
    return figure


@contextmanager
def _style(chart: Chart, size: tuple[int, int]) -> Iterator[None]:
    # The salt makes ids of clip paths differ between the drawings of one page, and equal between two writings of it.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{chart.name}-{size[0]}"}):
        yield


def svg(chart: Chart, size: tuple[int, int]) -> str:
    """A whole SVG file of this size."""
    with _style(chart, size):
        figure = _figure(chart, size)
        buffer = io.StringIO()
        # Without dates, the same run gives the same file.
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()


def png(chart: Chart) -> bytes:
    """The wide drawing, twice as fine as a page's pixels."""
    size = size_of(chart, WIDE)
    with _style(chart, size):
        figure = _figure(chart, size)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=72 * _PNG_SCALE, metadata={"Software": None})
    return buffer.getvalue()


def _inline(svg: str) -> str:
    """Without what only a file of its own needs; its size is the page's business."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    # The page's own font; lengths were laid out with DejaVu, which is wider than the others.
    return re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--font)", body)


_ROUND = (1.0, 2.0, 5.0)


def is_logarithmic(lowest: float, highest: float) -> bool:
    """Whether values from ``lowest`` to ``highest`` get a logarithmic axis."""
    return lowest > 0 and highest > LOGARITHMIC_FROM * lowest


def axis_unit(lowest_seconds: float, highest_seconds: float) -> tuple[str, float]:
    """The unit of an axis of latencies, and what to multiply seconds with."""
    logarithmic = is_logarithmic(lowest_seconds, highest_seconds)
    return wording.axis_unit(lowest_seconds, highest_seconds, logarithmic=logarithmic)


def value_axis(sheet: Sheet, lowest: float, highest: float) -> None:
    """The vertical axis: linear from zero, or logarithmic where zero would flatten everything but the tail."""
    axes = sheet.axes
    if is_logarithmic(lowest, highest):
        lowest = max(lowest, highest / _MOST_DECADES)
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.3, highest * 1.3)
        steps = _ROUND if highest < 300 * lowest else _ROUND[:1]
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, highest * 1.15 or 1)
    axes.yaxis.set_major_formatter(wording.tick)


def label_ends(sheet: Sheet, labels: Sequence[tuple[float, str, str]]) -> None:
    """Writes each (y, text, colour) right of the axes, moved apart where they would overlap."""
    axes = sheet.axes
    gap = (_TEXT + 2) / axes.get_window_extent().height
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = sorted((float(to_axes.transform((axes.get_xlim()[1], y))[1]), text, colour) for y, text, colour in labels)
    for (_, text, colour), place in zip(wanted, spread([at for at, _, _ in wanted], gap), strict=True):
        axes.annotate(
            text, (1, place), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points", color=colour,
            va="center", fontsize=_TEXT - 0.5, annotation_clip=False,
        )  # fmt: skip


def spread(places: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Sorted places, moved as little as it takes to lie at least ``gap`` apart, inside low to high if they fit."""
    groups: list[tuple[float, int]] = []  # middle and number of labels that touch
    for place in places:
        groups.append((min(max(place, low), high), 1))
        while len(groups) > 1:
            (before, many), (after, more) = groups[-2:]
            if after - before >= gap * (many + more) / 2:
                break
            middle = (before * many + after * more) / (many + more)
            reach = gap * (many + more - 1) / 2
            groups[-2:] = [(min(max(middle, low + reach), max(high - reach, low + reach)), many + more)]
    return [middle + gap * (at - (many - 1) / 2) for middle, many in groups for at in range(many)]
