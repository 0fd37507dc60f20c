// Numbers as people read them: three significant digits, a unit that fits.

const NOTHING = "–";

// 0.05 → "0.05"; even: "0.0500", so that values in a column, or of one figure as it changes, line up.
export function number(value, { even = false, digits = 3 } = {}) {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  if (value === 0) return "0";
  const whole = Math.floor(Math.log10(Math.abs(value))) + 1;
  const decimals = Math.min(Math.max(digits - whole, 0), 6);
  const least = even ? decimals : 0;
  return value.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: decimals });
}

export function count(value) {
  return value === null || value === undefined ? NOTHING : Math.round(value).toLocaleString("en-US");
}

// The unit for latencies up to so many seconds: one unit a chart or a table row group, so that values compare.
export function timeUnit(largestSeconds) {
  if (largestSeconds >= 2) return { unit: "s", factor: 1 };
  if (largestSeconds >= 0.001 || !largestSeconds) return { unit: "ms", factor: 1e3 };
  return { unit: "µs", factor: 1e6 };
}

export function seconds(value, options) {
  if (value === null || value === undefined) return NOTHING;
  const { unit, factor } = Math.abs(value) >= 1 ? { unit: "s", factor: 1 } : timeUnit(Math.abs(value));
  return `${number(value * factor, options)} ${unit}`;
}

export function percent(ratio) {
  if (ratio === null || ratio === undefined) return NOTHING;
  const value = ratio * 100;
  if (value > 99 && value < 100) {
    // Nearly all is not all: as many decimals as show that something is missing.
    const decimals = Math.min(Math.ceil(-Math.log10(100 - value) - 1e-9), 6);
    return `${(Math.floor(value * 10 ** decimals) / 10 ** decimals).toFixed(decimals)} %`;
  }
  return `${number(value)} %`;
}

export function quantity(value, unit) {
  if (unit === "s") return seconds(value);
  if (unit === "ratio") return percent(value);
  return value === null || value === undefined ? NOTHING : `${number(value)} ${unit}`;
}

// 75 → "1:15", 3700 → "1:01:40": time since the run's start.
export function clock(totalSeconds) {
  const whole = Math.max(0, Math.round(totalSeconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = `${String(minutes).padStart(hours ? 2 : 1, "0")}:${String(rest).padStart(2, "0")}`;
  return hours ? `${hours}:${tail}` : tail;
}

// An element with attributes and children; texts become text nodes, so nothing that a server says can become markup.
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
