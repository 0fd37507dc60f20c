// The deployment's targets and how the run does; the load generator's own health.

import { count, element, number, percent, quantity, seconds } from "./format.js";

const MARKS = { met: "✓", missed: "✗", "not measured yet": "…", "cannot tell": "?", "not run": "–" };
const LATER = "measured by the end of the run";
const CLASSES = {
  met: "llm-met", missed: "llm-missed", "not measured yet": "llm-waiting", "cannot tell": "llm-unclear",
  "not run": "llm-not-run",
};

export class TargetsTab {
  constructor() {
    this.node = element("div", { class: "llm-targets" });
  }

  update(state) {
    const title = `Targets of the deployment${state.live ? ", as the run stands" : ""}`;
    const parts = [element("h3", {}, title), ...targetCards(state.targets)];
    if (state.run) parts.push(element("h3", {}, "The load generator itself"), healthTable(state));
    this.node.replaceChildren(...parts);
  }
}

function targetCards(targets) {
  if (!targets.length) {
    return [element("p", {}, "The deployment sets no targets: add them under `targets` of a model.")];
  }
  return targets.map((target) => {
    const name = `${target.scenario} · ${target.load}`;
    const head = element("header", {}, badge(target.state), element("b", {}, name), element("span", {}, target.model));
    const reasons = target.reasons.map((reason) => element("p", { class: "llm-reason" }, reason));
    const table = element("table", {}, targetHead(), element("tbody", {}, ...target.rows.map(targetRow)));
    return element("section", { class: `llm-target ${CLASSES[target.state]}` }, head, ...reasons, table);
  });
}

function targetHead() {
  const titles = ["Limit", "Asked", "Measured", "State", ""].map((title) => element("th", { scope: "col" }, title));
  return element("thead", {}, element("tr", {}, ...titles));
}

function targetRow(row) {
  const asked = `${row.at_most ? "at most" : "at least"} ${quantity(row.asked, row.unit)}`;
  const measured = row.infinite ? "more than every answer" : quantity(row.measured, row.unit);
  const notes = [row.note, row.close ? "close" : ""].filter((note, i, all) => note && all.indexOf(note) === i);
  return element(
    "tr", { class: CLASSES[row.state] },
    element("td", {}, row.limit), element("td", {}, asked), element("td", {}, element("b", {}, measured)),
    element("td", {}, badge(row.state)), element("td", { class: "llm-note" }, notes[0] || ""),
  );
}

function badge(state) {
  return element("span", { class: `llm-badge ${CLASSES[state]}` }, `${MARKS[state]} ${state}`);
}

function healthTable({ health, run }) {
  const { offered, calibration } = health;
  const facts = [
    ["Offered load", `${percent(offered.ratio)} of what was asked: ${count(offered.sent)} of ${count(offered.asked)} `
      + "requests were sent in time"],
    ["Sent late by", `${seconds(offered.lateness_p99_seconds)} (p99)`],
    // Until its processes have said so, zeros would look like the best of health.
    ...(health.chunks && health.loop_lag_max_seconds ? measuredHealth(health) : [["Processor, event loop", LATER]]),
  ];
  if (calibration) {
    const { ttft_error_seconds: ttft, itl_error_seconds: itl } = calibration;
    facts.push(
      ["Calibration", `against ${count(calibration.streams)} streams with known times: TTFT ${off(ttft)}; ITL ${off(itl)}; `
        + `counts ${calibration.counts_exact ? "exact" : "WRONG"}`],
      ["Headroom", `${number(calibration.headroom_chunks_per_second)} chunks/s a process with a core to itself`],
    );
  }
  const rows = facts.map(([name, fact]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, fact)));
  const when = run.deployment ? `${run.deployment} at ${run.url}` : run.url;
  rows.push(element("tr", {}, element("th", { scope: "row" }, "Deployment"), element("td", {}, when)));
  return element("table", { class: "llm-facts" }, element("tbody", {}, ...rows));
}

function measuredHealth(health) {
  const { loop_lag_p50_seconds: p50, loop_lag_p99_seconds: p99, loop_lag_max_seconds: most } = health;
  return [
    ["Processor", `${percent(health.cpu_ratio)} of a core in the busiest of ${count(health.processes)} `
      + `${health.processes === 1 ? "process" : "processes"}`],
    ["Event loop late by", `${seconds(p50)} p50, ${seconds(p99)} p99, ${seconds(most)} at most`],
    ["Cost of a chunk", health.microseconds_a_chunk === null ? "–" : `${number(health.microseconds_a_chunk)} µs`],
  ];
}

function off(errors) {
  return `off by ${seconds(errors.p50)} p50, ${seconds(errors.p99)} p99`;
}
