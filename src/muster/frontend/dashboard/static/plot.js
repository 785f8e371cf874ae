// Line plots of the last ten minutes, in SVG, with a cursor for pointer and keys.

import { h } from "./dom.js";
import { clock } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const SPAN_S = 600;
const GAP_S = 8;
const LEFT = 52;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;

function s(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The next larger of 1, 2, 5 times a power of ten. */
export function niceMaximum(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * 0.9999);
}

/** A plot of one or two columns of the seconds. */
export class Plot {
  constructor(title, series, format) {
    this.title = title;
    this.series = series;
    this.format = format;
    this.seconds = [];
    this.chosen = null;
    this.when = h("span", { class: "muted" });
    this.keys = series.map(({ second }) => h("span", { class: second ? "key second" : "key" }));
    this.svg = s("svg", { role: "img", tabindex: "0" });
    this.element = h(
      "div",
      { class: "plot" },
      h("div", { class: "caption" }, h("b", {}, title), this.when, this.keys),
      this.svg,
    );
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.choose(this.nearest((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)));
    });
    for (const name of ["pointerleave", "blur"]) {
      this.svg.addEventListener(name, () => this.choose(null));
    }
    this.svg.addEventListener("keydown", (event) => this.step(event));
  }

  /** Show these seconds: arrays as the stream has them, oldest first. */
  update(seconds) {
    this.seconds = seconds;
    this.draw();
  }

  get end() {
    return this.seconds.length ? this.seconds[this.seconds.length - 1][0] : 0;
  }

  nearest(share) {
    const at = this.end - SPAN_S * (1 - Math.min(1, Math.max(0, share)));
    let best = null;
    for (const second of this.seconds) {
      if (!best || Math.abs(second[0] - at) < Math.abs(best[0] - at)) best = second;
    }
    return best;
  }

  choose(second) {
    this.chosen = second;
    this.draw();
  }

  step(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60, Home: -1e9, End: 1e9 };
    const move = moves[event.key];
    if (event.key === "Escape") this.choose(null);
    if (move === undefined || !this.seconds.length) return;
    event.preventDefault();
    const last = this.seconds.length - 1;
    const from = this.chosen ? this.seconds.indexOf(this.chosen) : last;
    this.choose(this.seconds[Math.min(last, Math.max(0, from + move))]);
  }

  draw() {
    const width = this.svg.clientWidth;
    const height = this.svg.clientHeight;
    if (!width || !height) return;
    const begin = this.end - SPAN_S;
    const shown = this.seconds.filter((second) => second[0] >= begin);
    let highest = 0;
    for (const { column } of this.series) {
      for (const second of shown) highest = Math.max(highest, second[column] ?? 0);
    }
    const top = niceMaximum(highest);
    const x = (at) => LEFT + ((at - begin) / SPAN_S) * (width - LEFT - RIGHT);
    const y = (value) => height - BOTTOM - (value / top) * (height - TOP - BOTTOM);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const line = Math.round(y(top * share)) + 0.5;
      parts.push(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: line, y2: line }));
      if (highest || !share) {
        const label = share ? this.format(top * share) : "0";
        parts.push(s("text", { x: LEFT - 6, y: line + 4, "text-anchor": "end" }, label));
      }
    }
    for (const [ago, label, anchor] of [[600, "10 min ago", "start"], [300, "5 min", "middle"], [0, "now", "end"]]) {
      const at = LEFT + (1 - ago / SPAN_S) * (width - LEFT - RIGHT);
      parts.push(s("text", { x: at, y: height - 4, "text-anchor": anchor }, label));
    }
    if (this.chosen && this.chosen[0] >= begin) {
      const at = x(this.chosen[0]);
      parts.push(s("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: height - BOTTOM }));
    }
    for (const { column, second } of [...this.series].reverse()) {
      const path = line(shown, column, x, y);
      if (path) parts.push(s("path", { class: second ? "series second" : "series", d: path }));
    }
    this.svg.replaceChildren(...parts);
    this.say(shown);
  }

  say(shown) {
    const values = this.series.map(({ column }) => {
      if (this.chosen) return this.chosen[column];
      for (let index = shown.length - 1; index >= 0; index -= 1) {
        if (shown[index][column] !== null) return shown[index][column];
      }
      return null;
    });
    this.when.textContent = this.chosen ? clock(this.chosen[0]) : "";
    const words = this.series.map(({ name }, index) => `${name} ${this.format(values[index])}`.trim());
    words.forEach((word, index) => {
      if (this.keys[index].textContent !== word) this.keys[index].textContent = word;
    });
    const label = `${this.title}: ${this.chosen ? clock(this.chosen[0]) : "latest"} ${words.join(", ")}`;
    this.svg.setAttribute("aria-label", label);
  }
}

/** A path through the values there are. It breaks where they are far apart; one alone is a dot. */
function line(seconds, column, x, y) {
  let path = "";
  let before = null;
  let alone = false;
  for (const second of seconds) {
    const value = second[column];
    if (value === null || value === undefined) continue;
    const point = `${x(second[0]).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before === null || second[0] - before > GAP_S) {
      if (alone) path += "h0.1";
      path += `M${point}`;
      alone = true;
    } else {
      path += `L${point}`;
      alone = false;
    }
    before = second[0];
  }
  return alone ? `${path}h0.1` : path;
}
