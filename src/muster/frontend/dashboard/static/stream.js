// The live stream: fetch and server-sent events, so that a key can be sent along.

const SILENCE_MS = 15000;
const HIDDEN_MS = 60000;
const LONGEST_MS = 10000;
const KEY = "muster-key";

/**
 * Follow `url` until the page goes.
 *
 * `on.event(name, data)` is called for each event, `on.link(word, text)` when the connection is
 * `up`, `down`, `paused` or wants a `key`. It comes back by itself, where it was; while the page is
 * hidden for long it rests, so that the frontend has nothing to compute.
 */
export function follow(url, on) {
  let last = "";
  let wait = 0;
  let stop = null;
  let timer = 0;
  let hidden = 0;

  async function connect() {
    clearTimeout(timer);
    const abort = new AbortController();
    stop = abort;
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    let text = "the connection was lost";
    try {
      const headers = { accept: "text/event-stream" };
      const key = sessionStorage.getItem(KEY);
      if (key) headers.authorization = `Bearer ${key}`;
      if (last) headers["last-event-id"] = last;
      const reply = await fetch(url, { headers, cache: "no-store", signal: abort.signal });
      if (reply.status === 401 || reply.status === 403) {
        on.link("key", key ? "the key was refused" : "a key is needed");
        stop = null;
        return;
      }
      if (!reply.ok) throw new Error(`the frontend answers with status ${reply.status}`);
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = parser((id, name, data) => {
        on.event(name, JSON.parse(data));
        if (id) last = id;
        wait = 0;
      });
      on.link("up", "live");
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
        parse(value);
      }
      text = "the frontend ended the stream";
    } catch (error) {
      if (error.name !== "AbortError" && error.name !== "TypeError") text = error.message;
    } finally {
      clearTimeout(watchdog);
    }
    if (stop !== abort) return;
    wait = Math.min(LONGEST_MS, wait ? wait * 2 : 1000);
    on.link("down", `${text}; trying again`);
    timer = setTimeout(connect, wait * (0.75 + Math.random() / 2));
  }

  function rest() {
    const running = stop;
    stop = null;
    clearTimeout(timer);
    running?.abort();
    on.link("paused", "paused");
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(rest, HIDDEN_MS);
    else if (!stop) connect();
  });
  connect();
  return {
    /** Send this key from now on. */
    use(key) {
      sessionStorage.setItem(KEY, key);
      connect();
    },
  };
}

function parser(on) {
  let rest = "";
  return (text) => {
    rest += text;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let id = "";
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("id: ")) id = line.slice(4);
        else if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length) on(id, name, data.join("\n"));
    }
  };
}
