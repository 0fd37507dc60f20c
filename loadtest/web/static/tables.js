// Percentiles and rates, for the total and for each scenario and model.

import { count, element, number, percent, timeUnit } from "./format.js";

const LATENCIES = [
  ["ttft", "Time to first token", "service: from sending"],
  ["ttft_scheduled", "Time to first token", "scheduled: from when it was due"],
  ["tpot", "Time per output token", "after the first, one value a request"],
  ["itl", "Inter-token latency", "one value a token"],
  ["inter_chunk", "Inter-chunk time", "one value a chunk of the stream"],
  ["e2e", "End to end", "service: from sending"],
  ["e2e_scheduled", "End to end", "scheduled: from when it was due"],
];
const LENGTHS = [
  ["prompt", "Prompt", "tokens a request, by the server's usage"],
  ["completion", "Completion", "tokens a request, by the server's usage"],
];
const EVEN = { even: true };
const FIGURES = ["p50", "p90", "p95", "p99", "mean", "max"];
const RATES = [
  ["Requests", (row) => count(row.sent)],
  ["OK", (row) => count(row.ok)],
  ["Failed", (row) => count(row.failed), (row) => row.failed > 0 && "llm-bad"],
  ["Abandoned", (row) => count(row.abandoned)],
  ["Error ratio", (row) => percent(row.error_ratio), (row) => row.failed > 0 && "llm-bad"],
  ["Goodput", (row) => percent(row.sent ? row.goodput_ratio : null)],
  ["Requests/s", (row) => number(row.requests_per_second, EVEN)],
  ["Output tokens/s", (row) => number(row.output_tokens_per_second, EVEN)],
  ["Prompt tokens", (row) => count(row.prompt_tokens)],
  ["Completion tokens", (row) => count(row.completion_tokens)],
  ["From prefix cache", (row) => count(row.cached_tokens)],
];

export class TablesTab {
  constructor() {
    this.node = element("div", { class: "llm-tables" });
  }

  update({ rows, run }) {
    const all = [...rows.series, rows.total];
    const parts = [
      element("h3", {}, "Requests and tokens"),
      scrolling(rateTable(all)),
      element("h3", {}, "Latencies"),
      scrolling(figureTable(all, LATENCIES, "latencies", run.open_loop)),
      element("h3", {}, "Lengths"),
      scrolling(figureTable(all, LENGTHS, "lengths", true)),
    ];
    if (rows.left_out) {
      parts.unshift(element("p", {}, `${rows.left_out} more scenarios and models are in the total only.`));
    }
    if (run.errors.length) {
      parts.push(element("h3", {}, "Failures"), scrolling(errorTable(run.errors)));
    }
    this.node.replaceChildren(...parts);
  }
}

function rateTable(rows) {
  const heads = ["Scenario", "Model", ...RATES.map(([title]) => title)];
  const lines = rows.map((row, i) => {
    const cells = RATES.map(([, value, mark]) => cell(value(row), mark && mark(row)));
    return element("tr", totalClass(rows, i), ...names(row), ...cells);
  });
  return table(heads, 2, lines);
}

// In a closed loop a request is due when it is sent: its scheduled times say nothing new.
function figureTable(rows, measures, group, withScheduled) {
  const lines = measures.flatMap(([key, title, meaning]) => {
    if (!withScheduled && key.endsWith("_scheduled")) return [];
    const largest = Math.max(0, ...rows.map((row) => row[group][key].max || 0));
    const { unit, factor } = timeUnit(largest);
    const write = {
      latencies: (value) => number(value === null ? null : value * factor, EVEN),
      // There are no parts of a token: those of a percentile come from the histogram's error.
      lengths: (value, name) => (name === "mean" ? number(value, { digits: 4 }) : count(value)),
    }[group];
    return rows.map((row, i) => {
      const figures = row[group][key];
      const head = i ? null : element("th", { rowspan: rows.length }, title, element("small", {}, meaning));
      const values = FIGURES.map((name) => cell(write(figures[name], name)));
      const unitCell = element("td", { class: "llm-unit" }, group === "latencies" ? unit : "tokens");
      const attributes = { class: [i ? "" : "llm-first", totalClass(rows, i).class].join(" ") };
      return element("tr", attributes, head, ...names(row), ...values, unitCell, cell(count(figures.count)));
    });
  });
  return table(["Measure", "Scenario", "Model", ...FIGURES, "", "Values"], 3, lines);
}

function errorTable(errors) {
  const lines = errors.map(([words, times]) => element("tr", {}, element("td", {}, words), cell(count(times))));
  return table(["What went wrong", "Times"], 1, lines);
}

function table(heads, texts, lines) {
  const titles = heads.map((title, i) => element("th", { scope: "col", class: i < texts ? "" : "llm-number" }, title));
  return element("table", {}, element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...lines));
}

function scrolling(node) {
  return element("div", { class: "llm-scroll" }, node);
}

function names(row) {
  return [element("td", {}, row.scenario || "total"), element("td", {}, row.model)];
}

function cell(words, mark) {
  return element("td", { class: `llm-number ${mark || ""}` }, words);
}

function totalClass(rows, i) {
  return rows.length > 1 && i === rows.length - 1 ? { class: "llm-total" } : {};
}
