// Line charts over the time of a run, in SVG: axes with units, legend, a crosshair that all charts share.

import { clock, element, number, shape, timeUnit } from "./format.js";

const HEIGHT = 220;
const MARGIN = { top: 12, right: 14, bottom: 24, left: 56 };
const LONGEST_GAP = 5; // groups without a value that a line still crosses: slow requests end seldom
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

// What a value is, and how its axis and its tooltip write it.
const KINDS = {
  seconds: (largest) => {
    const { unit, factor } = timeUnit(largest);
    return { unit, factor, least: 0 };
  },
  ratio: () => ({ unit: "%", factor: 100, least: 0, most: 1 }),
  number: () => ({ unit: "", factor: 1, least: 0 }),
};

export class Chart {
  // lines: [{key, name, color, width, dashed, area, optional}]; color is one of the style sheet's --llm-… variables.
  constructor({ title, explanation, kind, unit, lines, limit }, onHover) {
    Object.assign(this, { kind, unit: unit || "", lines, limitName: limit, onHover, index: null, data: null });
    this.legend = element("div", { class: "llm-legend" });
    this.unitText = element("span", { class: "llm-unit" });
    this.explanation = element("p", {}, explanation);
    this.svg = shape("svg", { height: HEIGHT, role: "img", "aria-label": title });
    this.tooltip = element("div", { class: "llm-tooltip", hidden: "" });
    const drawing = element("div", { class: "llm-drawing" }, this.svg, this.tooltip);
    const heading = element("h3", {}, title, this.unitText);
    this.node = element("figure", { class: "llm-chart" }, heading, this.explanation, drawing, this.legend);
    drawing.addEventListener("pointermove", (event) => this.pointed(event));
    drawing.addEventListener("pointerleave", () => this.onHover(null, null));
    new ResizeObserver(() => this.draw()).observe(drawing);
  }

  // data: {at, group_seconds, columns by key}; bands: [{from, to, name}]; limit: a value, or undefined.
  update(data, { bands, limit, explanation }) {
    Object.assign(this, { data, bands, limit });
    if (explanation) this.explanation.textContent = explanation;
    this.draw();
  }

  draw() {
    const width = this.svg.parentNode.clientWidth;
    if (!this.data || !width) return;
    const { at, group_seconds: group } = this.data;
    const shown = this.lines.filter((line) => !line.optional || this.data[line.key].some((value) => value));
    const values = shown.flatMap((line) => this.data[line.key]).filter((value) => value !== null);
    const largest = Math.max(0, ...values);
    const limitShown = this.limit !== undefined && this.limit < largest * 3;
    const scale = KINDS[this.kind](Math.max(largest, limitShown ? this.limit : 0));
    const top = scale.most ?? niceCeiling(Math.max(largest, limitShown ? this.limit : 0) * scale.factor) / scale.factor;
    const [from, to] = at.length ? [at[0], at[at.length - 1] + group] : [0, 60];
    this.scale = scale;
    this.shown = shown;
    this.x = (second) => MARGIN.left + ((second - from) / (to - from)) * (width - MARGIN.left - MARGIN.right);
    this.y = (value) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    this.unitText.textContent = this.unit || scale.unit;
    this.svg.setAttribute("width", width);
    this.svg.replaceChildren(
      ...this.bandShapes(from, to),
      ...this.axes(width, from, to, top),
      ...(limitShown ? this.limitShapes(width) : []),
      ...shown.flatMap((line) => this.lineShapes(line)),
    );
    if (!values.length) this.svg.append(text(width / 2, HEIGHT / 2, "nothing measured yet", "middle"));
    this.cursor = shape("g", { class: "llm-cursor" });
    this.svg.append(this.cursor);
    this.drawLegend(shown, limitShown);
    this.showCursor();
  }

  axes(width, from, to, top) {
    const shapes = [];
    for (const value of ticks(top * this.scale.factor, 4)) {
      const y = this.y(value / this.scale.factor);
      shapes.push(shape("line", { class: "llm-grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
      shapes.push(text(MARGIN.left - 8, y + 4, number(value), "end"));
    }
    const fitting = Math.max(2, Math.floor((width - MARGIN.left) / 70));
    const step = TIME_STEPS.find((one) => (to - from) / one <= fitting) || 14400;
    for (let second = Math.ceil(from / step) * step; second <= to; second += step) {
      const x = this.x(second);
      shapes.push(shape("line", { class: "llm-tick", x1: x, x2: x, y1: this.y(0), y2: this.y(0) + 4 }));
      shapes.push(text(x, HEIGHT - 6, clock(second), "middle"));
    }
    return shapes;
  }

  bandShapes(from, to) {
    return (this.bands || []).flatMap((band) => {
      const [left, right] = [Math.max(band.from, from), Math.min(band.to, to)];
      if (right <= left) return [];
      const [x, width] = [this.x(left), this.x(right) - this.x(left)];
      const y = MARGIN.top;
      const name = width > 52 ? [text(x + 4, y + 11, band.name, "start")] : [];
      const area = shape("rect", { class: "llm-band", x, y, width, height: HEIGHT - MARGIN.top - MARGIN.bottom });
      area.append(shape("title", {}, band.name));
      return [area, ...name];
    });
  }

  limitShapes(width) {
    const y = this.y(this.limit);
    return [shape("line", { class: "llm-limit", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y })];
  }

  lineShapes(line) {
    const points = this.points(line.key);
    const path = runs(points).map((run) => run.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("")).join("");
    const style = `stroke: var(${line.color}); stroke-width: ${line.width || 1.8}`;
    const dash = line.dashed ? "6 4" : null;
    const shapes = [shape("path", { class: "llm-line", d: path, style, "stroke-dasharray": dash })];
    if (line.area && points.length > 1) {
      const [first, last, base] = [points[0], points[points.length - 1], this.y(0)];
      const outline = points.map(([x, y]) => `L${x} ${y}`).join("");
      const d = `M${first[0]} ${base}${outline}L${last[0]} ${base}Z`;
      shapes.unshift(shape("path", { class: "llm-area", d, style: `fill: var(${line.color})` }));
    }
    // A value between two gaps has no line to be seen by.
    const alone = runs(points).filter((run) => run.length === 1);
    return [...shapes, ...alone.map(([[x, y]]) => dot(x, y, line.color))];
  }

  points(key) {
    const { at, group_seconds: group } = this.data;
    return this.data[key].flatMap((value, i) =>
      value === null ? [] : [[round(this.x(at[i] + group / 2)), round(this.y(value)), i]],
    );
  }

  drawLegend(shown, limitShown) {
    const entries = shown.map((line) => {
      const mark = element("i", { style: `border-color: var(${line.color})`, class: line.dashed ? "llm-dashed" : "" });
      return element("span", {}, mark, line.name);
    });
    if (limitShown) {
      const value = `${number(this.limit * this.scale.factor)} ${this.unit || this.scale.unit}`;
      entries.push(element("span", {}, element("i", { class: "llm-limit-mark" }), `${this.limitName} ${value}`));
    }
    this.legend.replaceChildren(...entries);
  }

  pointed(event) {
    if (!this.x || !this.data.at.length) return;
    const { at, group_seconds: group } = this.data;
    const [left, right] = [this.x(at[0]), this.x(at[at.length - 1] + group)];
    const share = (event.clientX - this.svg.getBoundingClientRect().left - left) / (right - left);
    const index = Math.min(Math.max(Math.floor(share * at.length), 0), at.length - 1);
    this.onHover(index, this);
  }

  // index: of the group to mark, or null; speaking: this chart shows the tooltip.
  hover(index, speaking) {
    this.index = index;
    this.speaking = speaking;
    this.showCursor();
  }

  showCursor() {
    if (!this.cursor) return;
    const { at, group_seconds: group } = this.data;
    const visible = this.index !== null && this.index < at.length;
    this.cursor.replaceChildren();
    this.tooltip.hidden = !(visible && this.speaking);
    if (!visible) return;
    const x = this.x(at[this.index] + group / 2);
    this.cursor.append(shape("line", { x1: x, x2: x, y1: MARGIN.top, y2: this.y(0) }));
    const rows = this.shown.map((line) => {
      const value = this.data[line.key][this.index];
      if (value !== null) this.cursor.append(dot(x, this.y(value), line.color));
      const mark = element("i", { style: `border-color: var(${line.color})` });
      const unit = this.unit || this.scale.unit;
      const shownValue = value === null ? "–" : `${number(value * this.scale.factor, { even: true })} ${unit}`;
      return element("div", {}, mark, element("span", {}, line.name), element("b", {}, shownValue));
    });
    if (!this.speaking) return;
    const first = at[this.index];
    const when = group > 1 ? `${clock(first)} to ${clock(first + group)}` : clock(first);
    this.tooltip.replaceChildren(element("div", { class: "llm-when" }, when), ...rows);
    const beyond = x + this.tooltip.offsetWidth + 16 > this.svg.clientWidth;
    this.tooltip.style.left = `${beyond ? x - this.tooltip.offsetWidth - 12 : x + 12}px`;
  }
}

// Consecutive points, apart where too much is missing between them.
function runs(points) {
  const found = [];
  let before = -Infinity;
  for (const point of points) {
    if (point[2] - before > LONGEST_GAP) found.push([]);
    found[found.length - 1].push(point);
    before = point[2];
  }
  return found;
}

function ticks(top, wanted) {
  const step = niceStep(top / wanted);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const step = niceStep(value / 4);
  return Math.ceil((value * 1.02) / step) * step;
}

function dot(x, y, color) {
  return shape("circle", { cx: x, cy: y, r: 3, style: `fill: var(${color})` });
}

function text(x, y, words, anchor) {
  return shape("text", { x, y, "text-anchor": anchor }, words);
}

function round(value) {
  return Math.round(value * 10) / 10;
}
