// The dashboard: one state, told by the stream, and the parts of the page that show it.

import { show } from "./dom.js";
import { count, latency } from "./format.js";
import { Plot } from "./plot.js";
import * as sections from "./sections.js";
import { follow } from "./stream.js";

const MOST_SECONDS = 600;
const MOST_EVENTS = 200;
const $ = (id) => document.getElementById(id);

let state = null;
let link = "";

const plots = [
  new Plot("Requests per second", [{ name: "", column: 1 }, { name: "failed", column: 3, second: true }], count),
  new Plot("Tokens per second", [{ name: "", column: 5 }], count),
  new Plot("Time to first token", [{ name: "p50", column: 7 }, { name: "p95", column: 8, second: true }], latency),
  new Plot("Time between tokens", [{ name: "p50", column: 9 }, { name: "p95", column: 10, second: true }], latency),
];
$("plots").append(...plots.map((plot) => plot.element));

function apply(change) {
  state.at = change.at;
  if (change.frontend) state.frontend = change.frontend;
  if (change.cache) state.cache = change.cache;
  if (change.traffic) state.traffic = change.traffic;
  for (const [key, model] of Object.entries(change.models ?? {})) {
    if (model === null) delete state.models[key];
    else state.models[key] = model;
  }
  state.seconds = [...state.seconds, ...(change.seconds ?? [])].slice(-MOST_SECONDS);
  state.events = [...state.events, ...(change.events ?? [])].slice(-MOST_EVENTS);
}

function render() {
  if (!state) return;
  const { frontend } = state;
  show($("health"), sections.pill(frontend.status));
  show($("about"), sections.about(state));
  const troubles = sections.troubles(state);
  $("notice").hidden = !troubles.length;
  $("notice").className = frontend.status === "unavailable" ? "notice bad" : "notice";
  if (troubles.length) show($("notice"), troubles.map((text) => document.createTextNode(`${text} `)));
  show($("tiles"), sections.tiles(state));
  renderModels();
  show($("fetches"), sections.fetches(state));
  show($("events"), sections.events(state));
  show($("cache"), sections.cache(state));
  show($("cache-size"), sections.cacheSize(state));
  for (const plot of plots) plot.update(state.seconds);
  document.title = `${frontend.status === "healthy" ? "" : `${frontend.status} · `}Muster`;
  document.body.dataset.ready = "true";
}

function renderModels() {
  const filter = $("filter").value;
  show($("models"), sections.models(state, filter));
  const total = Object.keys(state.models).length;
  const found = filter ? `${sections.sortedModels(state, filter).length} of ${total}` : total ? String(total) : "";
  show($("models-count"), found);
}

let frame = 0;
function soon() {
  if (document.hidden || frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    render();
  });
}

const stream = follow(new URL("../v1/muster/live", import.meta.url), {
  event(name, data) {
    if (name === "snapshot") state = { cache: null, ...data, seconds: data.seconds ?? [], events: data.events ?? [] };
    else if (name === "change" && state) apply(data);
    soon();
  },
  link(word, text) {
    if (word !== link) $("link").className = `link ${word}`;
    link = word;
    if ($("link").textContent !== text) $("link").textContent = text;
    $("key").hidden = word !== "key";
    if (word === "key") $("key-text").focus();
  },
});

$("filter").addEventListener("input", () => state && renderModels());
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  stream.use($("key-text").value);
  $("key-text").value = "";
});
document.addEventListener("visibilitychange", soon);
