"""Several series as one: the scenarios of a model, and the repeats of a run."""

from collections.abc import Sequence

from loadtest.clock.tally import SeriesTally
from loadtest.results import RunResult, Series


def series_of(run: RunResult, model: str) -> Series:
    """All requests of one model in a run, whichever scenario of a mix they belong to; empty if there were none."""
    parts = [series for series in run.series if series.model == model]
    if len(parts) == len(run.series):
        return run.total
    return _merged(parts, run.total.window_seconds, model)


def pooled(repeats: Sequence[Series]) -> Series:
    """All requests of several runs of the same load: counts add up, histograms merge exactly, windows follow."""
    if len(repeats) == 1:
        return repeats[0]
    model = repeats[0].model if repeats else ""
    return _merged(repeats, sum(series.window_seconds for series in repeats), model)


def _merged(parts: Sequence[Series], window_seconds: float, model: str) -> Series:
    tally = SeriesTally()
    for part in parts:
        tally.merge(part)
    return tally.series("", model, window_seconds)
