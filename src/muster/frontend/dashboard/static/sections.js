// What each part of the page says, as elements made from the state.

import { h } from "./dom.js";
import { bytes, clock, count, latency, plural, prose, short, span } from "./format.js";

const KINDS = {
  serving: "good", healthy: "good",
  seen: "busy", fetching: "busy", verifying: "busy", loading: "busy", draining: "busy",
  retrying: "warn", degraded: "warn",
  refused: "bad", unavailable: "bad",
};
const ORDER = ["refused", "retrying", "fetching", "verifying", "loading", "seen", "serving"];
const MOST_MODELS = 200;
const MOST_PLACES = 24;
const UNDER_WAY = new Set(["seen", "fetching", "verifying", "loading"]);
const UNKNOWN = "unknown_model";

export function pill(word) {
  return h("span", { class: `pill ${KINDS[word] ?? "idle"}` }, word);
}

export function about({ frontend, at }) {
  const policy = frontend.policy ? ` · policy ${frontend.policy}` : "";
  const { processes, process_count: count } = frontend;
  const several = processes < count ? ` · ${processes} of ${count} processes` : count > 1 ? ` · ${count} processes` : "";
  return `version ${frontend.version} · up ${span(at - frontend.started)}${several}${policy}`;
}

/** What is wrong with the whole, in sentences; empty if nothing is. */
export function troubles({ frontend, at }) {
  const found = [];
  if (frontend.stale_since !== null && frontend.stale_since !== undefined) {
    const since = span(at - frontend.stale_since);
    found.push(`The registry has been out of reach for ${since}; this is the fleet as it was seen last. ${frontend.stale_reason}`);
  }
  if (frontend.status === "draining") found.push(`This frontend drains: ${frontend.message}.`);
  if (frontend.status === "unavailable") found.push(`No requests can be answered. ${frontend.message}`);
  return found;
}

function tile(name, value, unit, sub, bad) {
  return h(
    "dl",
    { class: "tile", "data-key": name },
    h("dt", {}, name),
    h("dd", {}, value, unit ? h("small", {}, ` ${unit}`) : null),
    h("dd", { class: bad ? "sub bad" : "sub" }, sub),
  );
}

function mean(seconds, column) {
  return seconds.length ? seconds.reduce((sum, second) => sum + second[column], 0) / seconds.length : 0;
}

function latest(seconds, column) {
  for (let index = seconds.length - 1; index >= Math.max(0, seconds.length - 60); index -= 1) {
    if (seconds[index][column] !== null) return seconds[index][column];
  }
  return null;
}

export function tiles(state) {
  const recent = state.seconds.slice(-10);
  const failed = mean(recent, 3);
  const active = recent.length ? recent[recent.length - 1][6] : 0;
  const queued = Object.values(state.traffic).reduce((sum, one) => sum + one.queued, 0);
  const models = Object.values(state.models);
  const serving = models.filter((model) => model.state === "serving").length;
  const replicas = models.flatMap((model) => model.cohorts ?? []);
  const size = (list) => list.reduce((sum, cohort) => sum + (cohort.replicas?.length ?? 0), 0);
  const out = size(replicas) - size(replicas.filter((cohort) => cohort.state === "serving"));
  return [
    tile("Models", `${serving}`, `of ${models.length} served`,
      out ? `${plural(out, "replica")} not serving` : plural(size(replicas), "replica"), out > 0),
    tile("Requests", count(mean(recent, 1)), "/s",
      failed ? `${count(failed)} /s fail` : "none fail", failed > 0),
    tile("In flight", count(active), "", `${queued} without a token yet`),
    tile("Tokens", count(mean(recent, 5)), "/s", "generated"),
    tile("First token", latency(latest(state.seconds, 7)), "", `p95 ${latency(latest(state.seconds, 8))}`),
    tile("Between tokens", latency(latest(state.seconds, 9)), "", `p95 ${latency(latest(state.seconds, 10))}`),
  ];
}

function matches(model, words) {
  const text = JSON.stringify(model).toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The models that match, those in trouble first. */
export function sortedModels(state, filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return Object.entries(state.models)
    .filter(([, model]) => !words.length || matches(model, words))
    .sort(([a, one], [b, other]) =>
      rank(one) - rank(other) || one.model.localeCompare(other.model) || (a < b ? -1 : 1));
}

/** Trouble first: what is not served, then what some replicas or instances are left out of. */
function rank(model) {
  const whole = (model.cohorts ?? []).every((cohort) => cohort.state === "serving");
  return ORDER.indexOf(model.state) - (whole && !model.excluded?.length ? 0 : 0.5);
}

export function models(state, filter) {
  const found = sortedModels(state, filter);
  if (!found.length) {
    const none = Object.keys(state.models).length;
    return [h("p", { class: "muted" }, none ? "No model matches." : "No model is registered. Workers register theirs when they start.")];
  }
  const parts = found.slice(0, MOST_MODELS).map(([key, model]) => modelCard(key, model, state));
  if (found.length > MOST_MODELS) {
    parts.push(h("p", { class: "muted small", "data-key": "more" }, `${found.length - MOST_MODELS} more; filter to see them.`));
  }
  const unknown = state.traffic[UNKNOWN];
  if (unknown?.started) {
    parts.push(h("p", { class: "hint", "data-key": "unknown" }, `${count(unknown.started)} requests/s ask for models that do not exist, or are malformed.`));
  }
  return parts;
}

function modelCard(key, model, state) {
  const cohorts = model.cohorts ?? [];
  const replicas = cohorts.reduce((sum, cohort) => sum + (cohort.replicas?.length ?? 0), 0);
  const facts = [
    model.endpoint,
    plural(replicas, "replica"),
    model.lora && `LoRA adapter ${model.lora}`,
    model.aliases?.length && `also called ${model.aliases.join(", ")}`,
    model.file_count && `${plural(model.file_count, "file")}, ${bytes(model.byte_count)}`,
    model.since && `${model.state} for ${span(state.at - model.since)}`,
  ].filter(Boolean);
  const retry = model.retry_at ? ` Attempt ${model.attempt} failed; the next one is in ${span(model.retry_at - state.at)}.` : "";
  const several = cohorts.length > 1;
  const waiting = model.file_done < model.file_count && ["fetching", "verifying"].includes(model.state);
  return h(
    "article",
    { class: "model", "data-key": key },
    h("div", { class: "title" }, h("h3", {}, model.model || "A record nobody can read"), pill(model.state), withoutRequests(model),
      waiting ? h("span", { class: "muted small num" }, `${model.file_done ?? 0} of ${model.file_count} files`) : null),
    h("p", { class: "facts" }, facts.join(" · ")),
    traffic(state.traffic[model.model]),
    model.state !== "serving" && (model.message || model.code) && !several
      ? why(model, retry) : null,
    leftOut(model.files),
    h("div", { class: "cohorts" }, cohorts.map((cohort) => cohortBox(cohort, model, several, retry))),
    excluded(model.excluded, cohorts),
  );
}

function withoutRequests(model) {
  const number = model.excluded?.length ?? 0;
  if (!number) return null;
  return h("span", { class: "pill warn" }, `${number} without requests`);
}

function why(one, more = "") {
  return h("p", { class: one.state === "refused" ? "why" : "why warn" },
    one.code ? h("code", {}, one.code) : null, one.code ? " " : null, UNDER_WAY.has(one.state) ? "the last attempt: " : null, prose(one.message), more);
}

function traffic(one) {
  if (!one) return null;
  const item = (name, value) => h("span", {}, h("b", {}, value), ` ${name}`);
  return h("p", { class: "traffic" },
    item("req/s", count(one.started)),
    item("tok/s", count(one.tokens)),
    item("in flight", String(one.active)),
    h("span", {}, "TTFT ", h("b", {}, latency(one.ttft_p50)), ` p95 ${latency(one.ttft_p95)}`),
    one.itl_p50 === null ? null : h("span", {}, "ITL ", h("b", {}, latency(one.itl_p50)), ` p95 ${latency(one.itl_p95)}`),
    one.failed ? item("fail/s", count(one.failed)) : null);
}

function leftOut(files) {
  const found = (files ?? []).filter((file) => file.state === "left_out" || file.state === "failed");
  return found.map((file) =>
    h("p", { class: "why warn" }, h("code", {}, file.name),
      file.state === "failed" ? " failed: " : " is left out: ", file.message || file.code || file.state));
}

function cohortBox(cohort, model, several, retry) {
  const places = cohort.replicas ?? [];
  const digest = cohort.identity ? `identity ${short(cohort.identity)}` : cohort.mdcsum ? `card ${short(cohort.mdcsum)}` : "";
  const out = new Set((model.excluded ?? []).map((each) => each.instance));
  return h(
    "div",
    { class: "cohort", "data-key": `${cohort.state} ${cohort.mdcsum ?? ""}` },
    h("div", { class: "line" },
      several ? pill(cohort.state) : null,
      h("span", {}, plural(places.length, "replica")),
      digest ? h("span", { class: "muted" }, h("span", { class: "mono", title: cohort.identity || cohort.mdcsum }, digest)) : null),
    several && cohort.state !== "serving" && (cohort.message || cohort.code) ? why(cohort, retry) : null,
    cohort.differs?.length
      ? h("ul", { class: "differs", "aria-label": "What differs" }, cohort.differs.map((line) => h("li", {}, line)))
      : null,
    cohort.differs?.length ? h("p", { class: "hint" }, "Line by line: ", h("code", {}, `muster model diff ${model.model}`)) : null,
    h("ul", { class: "places mono" }, places.slice(0, MOST_PLACES).map((place) => placeItem(place, out)),
      places.length > MOST_PLACES ? h("li", {}, `${places.length - MOST_PLACES} more`) : null),
  );
}

function placeItem(place, out) {
  const where = place.address ? ` ${place.address}` : "";
  const isOut = out.has(place.instance);
  return h("li", { class: isOut ? "out" : null, title: place.transport ? `over ${place.transport}` : null },
    (place.instance ? `${place.instance}` : place.key) + where, isOut ? " · no requests" : null);
}

/** Instances that get no requests, without those whose cohort says why already. */
function excluded(list, cohorts) {
  const told = new Set(cohorts.filter((cohort) => cohort.state !== "serving")
    .flatMap((cohort) => (cohort.replicas ?? []).map((place) => place.instance)));
  const found = (list ?? []).filter((each) => !told.has(each.instance));
  if (!found.length) return null;
  return h("ul", { class: "excluded", "aria-label": "Instances without requests" }, found.map((each) =>
    h("li", { class: "why warn" }, h("span", { class: "mono" }, each.instance + (each.address ? ` ${each.address}` : "")),
      ` gets no requests: ${prose(each.reason)}`)));
}

export function fetches(state) {
  const found = [];
  for (const [key, model] of Object.entries(state.models)) {
    for (const file of model.files ?? []) {
      if (file.state === "fetching" || file.state === "verifying") found.push([key, model, file]);
    }
  }
  if (!found.length) return [h("p", { class: "muted" }, "Nothing is being fetched.")];
  return found.map(([key, model, file]) => {
    const done = file.done_bytes ?? 0;
    const total = file.size_bytes;
    const speed = file.seconds > 0.5 && done ? ` · ${bytes(Math.round(done / file.seconds))}/s` : "";
    return h(
      "div",
      { class: "fetch", "data-key": `${key} ${file.role} ${file.name}` },
      h("div", { class: "line" },
        h("span", {}, h("b", {}, model.model), " ", h("span", { class: "mono" }, file.name)),
        h("span", { class: "muted num" }, `${bytes(done)} of ${bytes(total)}${speed}`)),
      h("progress", { max: total || 1, value: total ? done : null, "aria-label": `${file.name} of ${model.model}` }),
      h("p", { class: "muted small" }, file.state === "verifying" ? "comparing with its digest" : file.source ? `from ${file.source}` : "waiting"),
    );
  });
}

export function events(state) {
  if (!state.events.length) return [h("p", { class: "muted" }, "Nothing has happened yet.")];
  return [...state.events].reverse().map((event) =>
    h(
      "div",
      { class: `event ${event.level}`, "data-key": String(event.number) },
      h("time", { datetime: new Date(event.at * 1000).toISOString() }, clock(event.at)),
      h("div", {},
        event.model ? h("span", {}, `${event.model} `) : null,
        h("span", { class: "what" }, event.what),
        event.code ? h("code", {}, ` ${event.code}`) : null,
        event.detail ? h("div", { class: "detail small" }, prose(event.detail)) : null,
        event.mdcsum && !event.detail ? h("span", { class: "muted small mono" }, ` card ${short(event.mdcsum)}`) : null),
    ));
}

export function cacheSize({ cache }) {
  if (!cache || cache.error) return "";
  const budget = cache.max_bytes ? ` of ${bytes(cache.max_bytes)}` : "";
  return `${plural(cache.files, "file")} · ${bytes(cache.size_bytes)}${budget}`;
}

export function cache(state) {
  const { cache: one } = state;
  if (!one) return [h("p", { class: "muted" }, "Not looked at yet, or there is none.")];
  const where = h("p", { class: "muted small budget mono" }, one.path);
  if (one.error) return [where, h("p", { class: "why" }, one.error)];
  const spare = one.spare_bytes
    ? h("p", { class: "muted small budget" }, `${bytes(one.spare_bytes)} more in unfinished or bad files`) : null;
  if (!one.entries.length) return [where, spare, h("p", { class: "muted" }, "It is empty.")];
  return [
    where,
    spare,
    one.max_bytes ? h("progress", { max: one.max_bytes, value: Math.min(one.size_bytes, one.max_bytes), "aria-label": "Share of the budget" }) : null,
    h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Model"), h("th", { scope: "col", class: "right" }, "Size"), h("th", { scope: "col", class: "right" }, "Used"))),
      h("tbody", {}, one.entries.map((entry) => {
        const [slug, digest] = entry.name.includes("/") ? entry.name.split("/") : ["", entry.name];
        return h("tr", { "data-key": entry.name || "-" },
          h("td", {}, entry.name ? slug || "no name" : "files of no model", " ",
            digest ? h("span", { class: "muted mono" }, short(digest)) : null,
            entry.problem ? h("p", { class: "why" }, entry.problem) : null),
          h("td", { class: "right" }, bytes(entry.size_bytes)),
          h("td", { class: "right" }, entry.users?.length ? "in use" : entry.used ? `${span(state.at - entry.used)} ago` : "–"));
      }))),
  ];
}
