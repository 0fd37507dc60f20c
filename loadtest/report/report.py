"""From runs to a document: one load, the repeats of one, a sweep, or several of them."""

from collections.abc import Mapping, Sequence

from loadtest.report import wording
from loadtest.report.background import environment, environment_differences, meanings, repeat_command
from loadtest.report.charts.canvas import drawn
from loadtest.report.charts.curve import HOW_TO_READ, curves
from loadtest.report.document import (
    Block,
    Cell,
    Code,
    Document,
    Figures,
    Findings,
    Fold,
    Paragraph,
    Section,
    Tone,
    table,
)
from loadtest.report.grouping import Point, Sweep, sweeps
from loadtest.report.limits import sweep_findings
from loadtest.report.overview import distributions, key_numbers, loads, targets, validity
from loadtest.report.run_details import details, problems
from loadtest.results import LoadKind, RunResult
from loadtest.verdict.targets import TargetVerdict

MOST_DETAILED_RUNS = 16
"""Of which time lines are drawn: each takes about half a second and 100 kB."""


def report(
    runs: Sequence[RunResult],
    *,
    verdicts: Sequence[TargetVerdict] = (),
    capacities: Sequence[str] = (),
    parameters: Mapping[str, Mapping[str, str]] | None = None,
) -> Document:
    """Everything there is to say of these runs.

    Args:
        runs: At least one.
        verdicts: Of check.json, if there was one.
        capacities: Of capacity.json, likewise: a sentence each.
        parameters: By run's id, the scenario's parameters that are not as in its file.

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("a report needs a run")
    found = sweeps(runs)
    sections: list[Section] = []
    for sweep in found:
        sections += _named(_sections(sweep), sweep, several=len(found) > 1)
    if verdicts:
        sections.insert(1, Section("Targets", targets(verdicts)))
    if capacities:
        sections.insert(0, Section("Capacity", [Paragraph(sentence) for sentence in capacities]))
    sections += [*_background(found, parameters or {}), meanings()]
    invalid = sum(not run.valid for run in runs)
    badge, tone = _badge(invalid, len(runs), interrupted=any(run.interrupted for run in runs))
    return Document(
        title=" and ".join(_title(sweep) for sweep in found[:2]) + (" and more" if len(found) > 2 else ""),
        badge=badge,
        tone=tone,
        facts=_facts(runs),
        sections=sections,
    )


def _badge(invalid: int, every: int, *, interrupted: bool) -> tuple[str, Tone]:
    if invalid:
        return ("INVALID" if invalid == every else f"{invalid} of {every} runs INVALID"), "bad"
    return ("interrupted", "warn") if interrupted else ("valid", "good")


def _title(sweep: Sweep) -> str:
    first, last = sweep.points[0], sweep.points[-1]
    if len(sweep.points) == 1:
        return f"{sweep.first.scenario}, {first.name}"
    kind = "concurrency" if sweep.kind is LoadKind.CLOSED else "rate"
    return f"{sweep.first.scenario}, {kind} {first.short_name} to {last.short_name}"


def _facts(runs: Sequence[RunResult]) -> list[str]:
    """What, on what, when."""
    first = runs[0]
    found = []
    for model in first.environment.models:
        on = f"{model.gpus_per_replica} × {model.gpu}" if model.gpu else "CPU"
        replicas = f"{model.replicas} replicas, each " if model.replicas > 1 else ""
        found.append(f"{model.name}: {replicas}on {on}" if replicas else f"{model.name} on {on}")
    if version := first.environment.versions.get("vllm"):
        found.append(f"vLLM {version}")
    if first.environment.deployment:
        found.append(f"deployment {first.environment.deployment}")
    found.append(min(run.started_at for run in runs).replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC"))
    requests = sum(run.total.counts.sent for run in runs)
    lasted = f"{wording.span(first.duration_seconds)} measured"
    found.append(wording.plural(len(runs), "run") if len(runs) > 1 else lasted)
    found.append(wording.plural(requests, "request"))
    return found


def _named(sections: Sequence[Section], sweep: Sweep, *, several: bool) -> list[Section]:
    if not several:
        return list(sections)
    return [Section(f"{section.title}: {_title(sweep)}", section.blocks) for section in sections]


def _sections(sweep: Sweep) -> list[Section]:
    warnings = validity(sweep)
    if len(sweep.points) == 1:
        point = sweep.points[0]
        sections = [Section("Key numbers", [*warnings, *key_numbers(point), *_repeats(point)])]
    else:
        charts = [drawn(chart) for chart in curves(sweep)]
        few = Paragraph("Three loads or more give a curve of throughput against latency.")
        sections = [
            Section("All loads", [*warnings, loads(sweep)]),
            Section("Throughput against latency", [Paragraph(HOW_TO_READ), Figures(charts)] if charts else [few]),
        ]
    limits = sweep_findings(sweep)
    unknown = Paragraph("Nothing in these numbers says what limited the run.")
    sections.append(Section("What limited it, and what to change", [Findings(limits) if limits else unknown]))
    alone = len(sweep.runs) == 1
    sections += problems(sweep.first) if alone else []
    shown = distributions(sweep)
    if shown.drawings:
        how = "Half of the requests took at most the curve's height at p50, and 99 of 100 at most its height at p99."
        sections.append(Section("Latency distributions", [Paragraph(how), shown]))
    if alone:
        return [*sections, *details(sweep.first)]
    return [*sections, Section("Each run", _folds(sweep))]


def _repeats(point: Point) -> list[Block]:
    """How far repeats differ."""
    if len(point.runs) == 1:
        return []
    single = [Point((run,)) for run in point.runs]
    found = loads(Sweep(tuple(single)))
    rows: list[list[Cell | str]] = [[run.id, *row[1:]] for run, row in zip(point.runs, found.rows, strict=True)]
    heads = ["run", *("#" + column.title for column in found.columns[1:])]
    return [table(heads, rows, "Each repeat by itself. " + found.caption)]


def _folds(sweep: Sweep) -> list[Block]:
    blocks: list[Block] = []
    runs = [(point, number, run) for point in sweep.points for number, run in enumerate(point.runs, 1)]
    # Where there are many, one of each load shows what happened when.
    for point, number, run in runs:
        charts = len(runs) <= MOST_DETAILED_RUNS or number == 1
        prefix = f"{_file_name(point.short_name)}-{number}-"
        inside: list[Block] = []
        for section in [*problems(run), *details(run, prefix=prefix, charts=charts)]:
            inside += [Paragraph(section.title), *section.blocks]
        name = f"{point.name}, run {number} ({run.id})" if len(point.runs) > 1 else f"{point.name} ({run.id})"
        tokens = wording.quantity(run.total.output_tokens_per_second, "tok/s")
        remark = "" if run.valid else ", INVALID"
        blocks.append(Fold(f"{name}: {tokens}{remark}", inside, "" if run.valid else "bad"))
    return blocks


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in ".-" else "-" for character in text)


def _background(found: Sequence[Sweep], parameters: Mapping[str, Mapping[str, str]]) -> list[Section]:
    runs = [run for sweep in found for run in sweep.runs]
    blocks = environment(runs[0])
    differences = environment_differences(runs)
    if differences:
        rows = [[name, *values] for name, values in differences]
        blocks.append(
            table(("", *(run.id for run in runs)), rows, "What is not the same in all runs; above are the first's.")
        )
    firsts = [point.first for sweep in found for point in sweep.points]
    commands = [repeat_command(run, parameters.get(run.id)) for run in firsts]
    unknown = any("…" in command for command in commands)
    note = "…: the result does not hold it; use the same file or list as before." if unknown else ""
    return [
        Section("Environment and configuration", blocks),
        Section("How to repeat it", [Code("\n".join(commands)), *([Paragraph(note)] if note else [])]),
    ]
