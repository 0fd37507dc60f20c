"""A report for a pull request."""

import re

from loadtest.report.document import (
    Card,
    Cards,
    Cell,
    Code,
    Document,
    Findings,
    Fold,
    Notice,
    Paragraph,
    Section,
    table,
)
from loadtest.report.finding import Finding
from loadtest.report.markdown import escape, to_markdown

HOSTILE = "a | b\n# <script>alert(1)</script> [x](javascript:1) *bold* `code`"
ROWS = [["TTFT", Cell("23.6 ms", note="23.3–24.0 ms")], ["Errors", Cell("3 %", "bad")]]
ADVICE = ("see `vllmstack plan`",)
DOCUMENT = Document(
    title="chat, concurrency 16",
    badge="valid",
    tone="good",
    facts=["vLLM 0.32.0", "495 requests"],
    sections=[
        Section(
            "Key numbers",
            [
                Notice("Watch out", ["one thing"], "warn"),
                Cards([Card(title="TTFT p95", value="40.2", unit="ms", note="26.0–42.8 ms")]),
                table(
                    ("", "#p50"),
                    [["TTFT", Cell("23.6 ms", note="23.3–24.0 ms")], ["Errors", Cell("3 %", "bad")]],
                    "Small.",
                ),
                Findings([Finding(limit="KV cache", evidence=("full",), advice=ADVICE, loads=("64",))]),
                Fold("options", [Code("{}")]),
                Fold("run 1", [Paragraph("details")]),
                Code("vllmstack load"),
            ],
        )
    ],
)


def test_a_document_reads_as_markdown() -> None:
    assert to_markdown(DOCUMENT) == "\n".join(
        [
            "# chat, concurrency 16",
            "",
            "**valid** · vLLM 0.32.0 · 495 requests",
            "",
            "## Key numbers",
            "",
            "> ⚠️ **Watch out**",
            ">",
            "> - one thing",
            "",
            "- TTFT p95: **40.2 ms** (26.0–42.8 ms)",
            "",
            "|   | p50 |",
            "| --- | ---: |",
            "| TTFT | 23.6 ms (23.3–24.0 ms) |",
            "| Errors | **3 %** |",
            "",
            "Small.",
            "",
            "**KV cache** (at 64)",
            "",
            "- full",
            "- → see `vllmstack plan`",
            "",
            "options:",
            "",
            "```",
            "{}",
            "```",
            "",
            "- run 1",
            "",
            "```",
            "vllmstack load",
            "```",
            "",
        ]
    )


def test_hostile_texts_stay_in_their_cell() -> None:
    page = Document(
        title=HOSTILE, badge="", tone="", facts=[], sections=[Section("Errors", [table(("error",), [[HOSTILE]])])]
    )

    written = to_markdown(page)

    [row] = [line for line in written.splitlines() if line.startswith("| a")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 2
    assert not re.search(r"(?<!\\)<script", written)
    assert "\\# \\<script\\>" in written


def test_what_is_escaped_is_one_line() -> None:
    assert escape("one\n\ttwo  three") == "one two three"


def test_code_that_holds_a_fence_gets_a_longer_one() -> None:
    page = Document(title="", badge="", tone="", facts=[], sections=[Section("Code", [Code("```\nx\n```")])])

    assert "````\n```\nx\n```\n````" in to_markdown(page)
