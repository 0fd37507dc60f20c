// Which charts there are, and what is drawn in each.

import { Chart } from "./charts.js";
import { element } from "./format.js";

// With few requests a second percentiles coincide: the wider line is seen around the one on top of it.
const PERCENTILES = (name) => [
  { key: `${name}_p99`, name: "p99", color: "--llm-high", width: 3.4 },
  { key: `${name}_p90`, name: "p90", color: "--llm-middle", width: 2 },
  { key: `${name}_p50`, name: "p50", color: "--llm-low", width: 1.4 },
];
const FROM_SENDING = "from sending a request to its first token, by the second in which it came";
const FROM_SCHEDULE = "from when a request was due to its first token, by the second in which it came";

const CHARTS = [
  {
    title: "Time to first token", explanation: FROM_SENDING, kind: "seconds", lines: PERCENTILES("ttft"), limit: "limit",
    limitKey: "ttft",
  },
  {
    title: "Time per output token", explanation: "after the first, by the second in which a request ended",
    kind: "seconds", lines: PERCENTILES("tpot"), limit: "limit", limitKey: "tpot",
  },
  {
    title: "Output tokens", explanation: "that arrived", kind: "number", unit: "tokens/s",
    lines: [{ key: "tokens", name: "output tokens", color: "--llm-low", area: true }],
  },
  {
    title: "Goodput", explanation: "requests within every latency limit, of those that ended", kind: "ratio",
    lines: [{ key: "good", name: "good requests", color: "--llm-good", area: true }],
  },
  {
    title: "Offered and achieved rate", explanation: "what the load asks for, what was sent, what came back",
    kind: "number", unit: "requests/s",
    lines: [
      { key: "ended", name: "ended", color: "--llm-good" },
      { key: "sent", name: "sent", color: "--llm-low" },
      { key: "due", name: "due", color: "--llm-quiet", dashed: true },
      { key: "failed", name: "failed", color: "--llm-bad", optional: true },
    ],
  },
  {
    title: "Requests in flight", explanation: "sent and not ended", kind: "number", unit: "requests",
    lines: [{ key: "in_flight", name: "in flight", color: "--llm-middle", area: true }],
  },
];

export class ChartsTab {
  constructor() {
    const hover = (index, speaker) => this.charts.forEach((chart) => chart.hover(index, chart === speaker));
    this.charts = CHARTS.map((definition) => new Chart(definition, hover));
    this.node = element("div", { class: "llm-charts" }, ...this.charts.map((chart) => chart.node));
  }

  update(state) {
    const { run, timeline } = state;
    const limits = run.limits;
    const bands = bandsOf(state);
    this.charts.forEach((chart, i) => {
      const { limitKey } = CHARTS[i];
      let explanation = CHARTS[i].explanation;
      if (explanation === FROM_SENDING && run.open_loop) explanation = FROM_SCHEDULE;
      if (CHARTS[i].title === "Goodput" && !Object.keys(limits).length) {
        explanation = "requests that succeeded, of those that ended; this run has no latency limits";
      }
      chart.update(timeline, { bands, limit: limitKey ? limits[limitKey] : undefined, explanation });
    });
  }
}

// What is drawn but not measured.
function bandsOf({ run, phase, elapsed_seconds: elapsed }) {
  const bands = [{ from: 0, to: run.warmup_seconds, name: "warm-up" }];
  if (run.measured_seconds && (phase === "draining" || phase.startsWith("ended"))) {
    bands.push({ from: run.warmup_seconds + run.measured_seconds, to: elapsed + 1, name: "drain" });
  }
  return bands;
}
