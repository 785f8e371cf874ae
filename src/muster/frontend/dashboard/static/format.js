// Numbers and times as people read them.

const NONE = "–";

/** A rate or count: `0`, `0.4`, `12`, `1.2k`. */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value >= 1e5 ? 0 : 1)}k`;
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(value >= 10 ? 1 : 2).replace(/0$/, "").replace(/\.0?$/, "");
}

/** Seconds of latency: `3.4 ms`, `120 ms`, `1.2 s`. */
export function latency(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds >= 10) return `${seconds.toFixed(0)} s`;
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  const milliseconds = seconds * 1000;
  return `${milliseconds >= 10 ? milliseconds.toFixed(0) : milliseconds.toFixed(1)} ms`;
}

/** Bytes: `512 B`, `4.4 MiB`. */
export function bytes(size) {
  if (size === null || size === undefined) return NONE;
  if (size < 1024) return `${size} B`;
  let rest = size;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    rest /= 1024;
    if (rest < 1023.95 || unit === "TiB") return `${rest.toFixed(1)} ${unit}`;
  }
  return NONE;
}

/** A duration in its largest unit of which there are two: `90 s`, `14 min`, `3 h`, `12 d`. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (whole >= 2 * size) return `${Math.floor(whole / size)} ${unit}`;
  }
  return `${whole} s`;
}

/** Time of day where the reader is. */
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour12: false });
}

/** The first digits of a digest. */
export function short(digest) {
  return (digest ?? "").replace("blake3:", "").slice(0, 12);
}

/** Text with whole digests cut to their first digits. */
export function prose(text) {
  return (text ?? "").replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, "$1…");
}

/** `1 replica`, `2 replicas`. */
export function plural(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}
