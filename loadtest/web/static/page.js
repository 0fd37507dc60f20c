// The load test's part of Locust's page: banner, tabs and form, kept in place while React draws the rest.

import { ChartsTab } from "./charts_tab.js";
import { enhanceForms } from "./form.js";
import { clock, count, element, number, percent, seconds } from "./format.js";
import { TablesTab } from "./tables.js";
import { TargetsTab } from "./targets_tab.js";

const HOME = new URL("../", import.meta.url);
const LIVE_MILLISECONDS = 1000;
const IDLE_MILLISECONDS = 3000;
const TABS = { "LLM charts": new ChartsTab(), "LLM tables": new TablesTab(), "LLM targets": new TargetsTab() };
const WITHOUT_RUN = ["LLM targets"];
const EVEN = { even: true };
const FILES = { "run.json": "run.json", "requests.csv": "requests.csv", "report.html": "report" };

const banner = element("div", { class: "llm-banner", role: "status" });
const summary = element("div", { class: "llm-summary" });
const body = element("div", { class: "llm-body" });
const panel = element("section", { class: "llm-panel" }, summary, body);

let state = null;
let shownTab = null;

// Locust's own nodes stay React's: ours are beside them, and put back where they belong after React has drawn.
function place() {
  const main = document.querySelector("#root main");
  if (!main) return;
  if (main.firstChild !== banner) main.prepend(banner);
  if (main.lastChild !== panel) main.append(panel);
  const tabs = [...main.querySelectorAll("[role=tab]")];
  const ours = tabs.filter((tab) => tab.textContent in TABS);
  for (const tab of ours) tab.style.order = "-1"; // before Locust's own
  if (ours.length && !shownTab && !new URLSearchParams(location.search).has("tab")) ours[0].click();
  const selected = tabs.find((tab) => tab.getAttribute("aria-selected") === "true")?.textContent;
  if (selected !== shownTab) {
    shownTab = selected ?? null;
    draw();
  }
  followTheme();
}

// Locust keeps its theme in React; the page's background is where it shows.
function followTheme() {
  const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g) || [255, 255, 255];
  const dark = (Number(red) + Number(green) + Number(blue)) / 3 < 128;
  document.documentElement.classList.toggle("llm-dark", dark);
}

function draw() {
  const tab = TABS[shownTab];
  panel.hidden = !tab || !state;
  drawBanner();
  if (panel.hidden) return;
  drawSummary();
  if (!state.run && !WITHOUT_RUN.includes(shownTab)) {
    const words = state.live ? "Preparing the run: prompts, calibration, users …" : "Nothing has run yet.";
    body.replaceChildren(element("p", { class: "llm-empty" }, words));
    return;
  }
  if (body.firstChild !== tab.node || body.childNodes.length > 1) body.replaceChildren(tab.node);
  tab.update(state);
}

function drawBanner() {
  const parts = [];
  if (state?.problem.length) parts.push(alert("bad", "The run did not start", state.problem));
  if (state?.notice) parts.push(alert("warn", "The change was not made", [[state.notice, ""]]));
  const flags = state?.run?.flags || [];
  const titles = {
    invalid: state?.live ? "INVALID so far: these numbers must not be used" : "INVALID: these numbers must not be used",
    warning: "Look at this before you use the numbers",
  };
  for (const [severity, title] of Object.entries(titles)) {
    const found = flags.filter((flag) => flag.severity === severity).map(({ fact, hint }) => [fact, hint]);
    if (found.length) parts.push(alert(severity === "invalid" ? "bad" : "warn", title, found));
  }
  banner.replaceChildren(...parts);
}

function alert(kind, title, facts) {
  const lines = facts.map(([fact, hint]) => element("li", {}, fact, hint ? element("small", {}, hint) : null));
  return element("div", { class: `llm-alert llm-alert-${kind}` }, element("b", {}, title), element("ul", {}, ...lines));
}

function drawSummary() {
  const { run, rows, health, phase, elapsed_seconds: elapsed } = state;
  if (!run) {
    summary.replaceChildren();
    return;
  }
  const row = rows.total;
  const { tpot } = row.latencies;
  const ttft = row.latencies[run.open_loop ? "ttft_scheduled" : "ttft"];
  const tiles = [
    ["TTFT p50", seconds(ttft.p50, EVEN), `p99 ${seconds(ttft.p99, EVEN)}`],
    ["TPOT p50", seconds(tpot.p50, EVEN), `p99 ${seconds(tpot.p99, EVEN)}`],
    ["Output", `${number(row.output_tokens_per_second, EVEN)} tok/s`, `${count(row.completion_tokens)} tokens`],
    ["Requests", `${number(row.requests_per_second, EVEN)} /s`, `${count(row.ok)} OK of ${count(row.sent)}`],
    ["Goodput", row.sent ? percent(row.goodput_ratio) : "–", row.failed ? `${count(row.failed)} failed` : "none failed"],
    ["Offered", percent(health.offered.ratio), run.open_loop ? "of the asked rate" : "closed loop"],
  ];
  const words = [run.scenario, run.models.join(", "), run.load, run.requests ? `${count(run.requests)} requests` : ""];
  const links = ["run.json", ...state.downloads.filter((name) => name !== "run.json")].map((name) =>
    element("a", { href: new URL(`run/${name}`, HOME), target: name.endsWith("html") ? "_blank" : null }, FILES[name]),
  );
  const head = element(
    "header", {}, element("b", {}, words.filter(Boolean).join(" · ")),
    element("span", { class: `llm-phase ${state.live ? "llm-live" : ""}` }, `${phase} ${clock(elapsed)}`),
    element("span", { class: "llm-downloads" }, ...links),
  );
  const tileNodes = tiles.map(([name, value, more]) =>
    element("div", { class: "llm-tile" }, element("span", {}, name), element("b", {}, value), element("small", {}, more)),
  );
  summary.replaceChildren(head, element("div", { class: "llm-tiles" }, ...tileNodes));
}

async function ask(what) {
  const response = await fetch(new URL(what, HOME), { cache: "no-store" });
  if (!response.ok) throw new Error(`${what}: ${response.status}`);
  return response.json();
}

async function refresh() {
  if (!document.hidden) {
    try {
      state = await ask("state");
      draw();
    } catch (error) {
      console.warn("load test:", error); // Locust is restarting, or the session of --web-login has ended
    }
  }
  setTimeout(refresh, state?.live ? LIVE_MILLISECONDS : IDLE_MILLISECONDS);
}

let placing = false;
new MutationObserver(() => {
  enhanceForms(() => ask("form")); // not with the next frame: by then somebody may have pressed its button
  if (placing) return;
  placing = true;
  requestAnimationFrame(() => {
    placing = false;
    place();
  });
}).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
place();
refresh();
