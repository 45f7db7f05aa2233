/* What the page hears while it is looked at: the pipeline's snapshot once a second, events and the rest as they come.
   One connection; a page that nobody sees gives it back, and resumes where it was. */

import { get, query } from "/page/api.js";

const KEPT = 300; // snapshots, of a second each
const KINDS = ["snapshot", "event", "audit", "ruling", "outage"];
const QUIET_MS = 5000; // a feed says something every second

const listeners = new Map();
let feed = null;
let watchdog = 0;
let poll = 0;
let last = null; // number of the newest document, to resume from
let missed = 0;
let streamsOf = "";
let fetched = 0;

export const live = {
  snapshot: null,
  history: [],
  streams: null, // what `GET /api/streams` says, or null where that is not there
  connected: null,
  on(kind, heard) {
    if (!listeners.has(kind)) listeners.set(kind, new Set());
    listeners.get(kind).add(heard);
    return () => listeners.get(kind).delete(heard);
  },
  start,
  stop,
  refreshStreams,
};

function tell(kind, said) {
  for (const heard of [...(listeners.get(kind) ?? [])]) heard(said);
}

function connected(is) {
  if (live.connected === is) return;
  live.connected = is;
  tell("connected", is);
}

function start() {
  stop();
  if (document.hidden) return;
  feed = new EventSource(`/api/feed${query({ kinds: KINDS.join(","), after: last })}`);
  feed.addEventListener("open", () => heard());
  for (const kind of KINDS) {
    feed.addEventListener(kind, (message) => {
      heard();
      if (message.lastEventId) last = message.lastEventId;
      const said = JSON.parse(message.data);
      if (kind === "snapshot") take(said);
      else tell(kind, said);
    });
  }
  feed.addEventListener("gap", () => {
    heard();
    tell("gap");
  });
  feed.addEventListener("error", lost);
}

function heard() {
  missed = 0;
  connected(true);
  clearTimeout(watchdog);
  watchdog = setTimeout(lost, QUIET_MS);
}

function stop() {
  clearTimeout(watchdog);
  clearTimeout(poll);
  feed?.close();
  feed = null;
}

/* EventSource comes back by itself after a broken connection, but not after an answer that is none of a feed's. So we
   come back ourselves, ever more slowly; meanwhile a question a second tells whether the server is there at all. */
async function lost() {
  stop();
  missed += 1;
  try {
    take(await get("/api/snapshot"));
    connected(true);
  } catch (error) {
    connected(false);
    if (error.status === 401) return;
  }
  poll = setTimeout(missed % 5 && live.connected ? lost : start, live.connected ? 1000 : Math.min(500 * missed, 3000));
}

function take(snapshot) {
  live.snapshot = snapshot;
  live.history.push({ at: Date.now(), snapshot });
  if (live.history.length > KEPT) live.history.shift();
  const now = snapshot.streams.map((one) => `${one.stream} ${one.state}`).join();
  if (now !== streamsOf || Date.now() - fetched > 10000) {
    streamsOf = now;
    refreshStreams();
  }
  tell("snapshot", snapshot);
}

async function refreshStreams() {
  fetched = Date.now();
  try {
    live.streams = (await get("/api/streams")).streams;
  } catch (error) {
    if (error.absent) live.streams = null;
  }
  tell("streams", live.streams);
}

document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
