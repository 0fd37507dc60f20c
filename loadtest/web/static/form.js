// Locust's start form: the fields of the load test sorted and explained, those of the chosen scenario among them.
// Locust sends whatever named fields the form has; ours only fill them, so without this script it works as well.

import { element } from "./format.js";

const ARRIVALS_OF = { burstiness: "gamma", untilRate: "ramp", steps: "steps", trace: "trace", traceSpeed: "trace" };
const WITHOUT_RATE = ["steps", "trace"];
const GROUPS = {
  "What is asked": ["scenario", "model", "parameters"],
  "How the load comes": ["rate", "arrivals", "burstiness", "untilRate", "steps", "trace", "traceSpeed"],
  "How long": ["duration", "warmup", "requests", "timeout", "seed"],
};
const MANY_PARAMETERS = 13; // those of a mix, mostly
const enhanced = new WeakSet();

// Lays out each of Locust's forms that is new on the page; load() brings what there is to choose and what is set now.
// Until it has, the form holds Locust's defaults: sent, they would be a change of the run that goes on. So it is inert,
// which React does not know of; a disabled button it would enable again as workers come.
export function enhanceForms(load) {
  for (const form of document.querySelectorAll("form")) {
    if (enhanced.has(form) || !form.querySelector("[name=scenario]")) continue;
    enhanced.add(form);
    form.inert = true;
    load()
      .then((choices) => form.isConnected && new Form(form, choices))
      .catch((error) => console.warn("load test:", error)) // the form then stays as Locust has drawn it
      .finally(() => (form.inert = false));
  }
}

class Form {
  constructor(form, { scenarios, models, current, running }) {
    Object.assign(this, { form, scenarios });
    this.kept = {};
    this.own = new Map();
    for (const [name, value] of Object.entries(current)) this.set(camel(name), value);
    for (const name of Object.values(GROUPS).flat()) explain(this.field(name));
    this.hide("runTime"); // it would cut the window off; the guard refuses it too
    if (running) {
      this.restrictToRunning();
      return;
    }
    this.layOut();
    this.suggest("model", models);
    this.value("scenario").addEventListener("change", () => this.showScenario());
    for (const name of ["arrivals", "rate"]) {
      this.value(name).addEventListener("input", () => this.showLoad());
      this.value(name).addEventListener("change", () => this.showLoad());
    }
    this.showScenario(this.value("parameters").value);
    this.showLoad();
  }

  value(name) {
    return this.form.querySelector(`[name=${name}]`);
  }

  field(name) {
    return this.value(name)?.closest(".MuiFormControl-root");
  }

  set(name, value) {
    const input = this.value(name);
    if (!input || input.value === value) return;
    // Past React, which keeps the value of some fields itself: it hears of it by the event, as of a person's typing.
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value").set.call(input, value);
    input.dispatchEvent(new Event(input.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
  }

  hide(name) {
    this.field(name)?.classList.add("llm-hidden");
  }

  // Under way only users, or the rate of an open loop, may change; all else is sent as it is.
  restrictToRunning() {
    const open = this.isOpen();
    for (const name of Object.values(GROUPS).flat()) if (!(name === "rate" && open)) this.hide(name);
    if (open) for (const name of ["userCount", "spawnRate"]) this.hide(name);
    const accordion = this.field("scenario").closest(".MuiAccordion-root");
    if (open) expand(accordion);
    else accordion.classList.add("llm-hidden");
  }

  layOut() {
    const area = this.field("scenario").parentNode;
    const accordion = area.closest(".MuiAccordion-root");
    expand(accordion);
    const heading = accordion.querySelector(".MuiAccordionSummary-content p");
    if (heading) heading.firstChild.nodeValue = "Scenario and load";
    area.classList.add("llm-form");
    for (const [title, names] of Object.entries(GROUPS)) {
      const position = (Object.keys(GROUPS).indexOf(title) + 1) * 20;
      area.append(element("h4", { style: `order: ${position}` }, title));
      names.forEach((name, i) => this.field(name)?.style.setProperty("order", position + i + 1));
    }
    this.description = element("div", { class: "llm-scenario", style: "order: 39" });
    area.append(this.description);
    this.hide("parameters");
    this.usersNote = element("p", { class: "llm-help" });
    this.field("userCount").append(this.usersNote);
  }

  suggest(name, words) {
    const list = element("datalist", { id: `llm-${name}` }, ...words.map((word) => element("option", { value: word })));
    this.form.append(list);
    this.value(name).setAttribute("list", list.id);
    this.value(name).placeholder = words[0] || "";
  }

  showScenario(given = "") {
    const scenario = this.scenarios.find((one) => one.name === this.value("scenario").value);
    const values = new Map(given.split(/\s+/).filter(Boolean).map((word) => word.split(/=(.*)/s)));
    this.own = new Map(scenario.parameters.map(({ name, value, text }) => {
      const input = element("input", { type: "text", placeholder: value, value: values.get(name) });
      input.addEventListener("input", () => this.writeParameters());
      const title = value ? `${text} Here: ${value}` : text;
      return [name, { input, label: element("label", { title }, element("span", {}, ...breakable(name)), input) }];
    }));
    const parameters = element("div", { class: "llm-parameters" }, ...[...this.own.values()].map(({ label }) => label));
    const many = this.own.size > MANY_PARAMETERS;
    const words = `${this.own.size} parameters`;
    this.description.replaceChildren(
      element("p", {}, scenario.description, this.loadButton(scenario)),
      many ? element("details", { open: given ? "" : null }, element("summary", {}, words), parameters) : parameters,
    );
    this.writeParameters();
  }

  loadButton({ load, fields }) {
    if (!load) return null;
    const button = element("button", { type: "button", class: "llm-button" }, `Use its own load: ${load}`);
    button.addEventListener("click", () => {
      for (const [name, value] of Object.entries(fields)) this.set(camel(name), value);
      this.showLoad();
    });
    return button;
  }

  writeParameters() {
    const filled = [...this.own].filter(([, { input }]) => input.value.trim());
    this.set("parameters", filled.map(([name, { input }]) => `${name}=${input.value.trim()}`).join(" "));
  }

  isOpen() {
    const rate = this.value("rate").value.trim();
    return WITHOUT_RATE.includes(this.value("arrivals").value) || !["", "0"].includes(rate);
  }

  showLoad() {
    const arrivals = this.value("arrivals").value;
    const needless = WITHOUT_RATE.includes(arrivals) ? ["rate"] : [];
    for (const [name, of] of Object.entries(ARRIVALS_OF)) if (of !== arrivals) needless.push(name);
    for (const name of ["rate", ...Object.keys(ARRIVALS_OF)]) this.toggle(name, !needless.includes(name));
    const open = this.isOpen();
    for (const name of ["userCount", "spawnRate"]) this.field(name).classList.toggle("llm-dimmed", open);
    this.usersNote.textContent = open ? "Not used: sessions come by rate, whatever the server does (open loop)." : "";
  }

  // What is not seen must not be sent; it comes back with its field.
  toggle(name, shown) {
    const hidden = this.field(name).classList.contains("llm-hidden");
    if (shown === !hidden) return;
    this.field(name).classList.toggle("llm-hidden", !shown);
    if (shown) this.set(name, this.kept[name] || "");
    else {
      this.kept[name] = this.value(name).value;
      this.set(name, "");
    }
  }
}

function expand(accordion) {
  accordion?.querySelector(".MuiAccordionSummary-root[aria-expanded=false]")?.click();
}

// Locust writes the help into the label, which is cut off: it goes below the field.
function explain(field) {
  const label = field?.querySelector("label");
  const [, name, help] = label?.textContent.match(/^(.*?) \((.*)\)$/s) || [];
  if (!help) return;
  const words = name.charAt(0) + name.slice(1).toLowerCase();
  label.firstChild.nodeValue = words;
  const notch = field.querySelector("fieldset legend span"); // as wide as the label
  if (notch) notch.textContent = words;
  field.append(element("p", { class: "llm-help" }, help));
}

// Long names may go on in the next line, after a dot or an underscore.
function breakable(name) {
  return name.split(/(?<=[._])/).flatMap((part) => [part, element("wbr")]);
}

function camel(name) {
  return name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}
