/* What happened: lanes over time, the list behind them, one event's whole record. */

import { get, path, query } from "/page/api.js";
import { fill, h, keyed, raw, say, unkey } from "/page/dom.js";
import { duration, moment, percent } from "/page/format.js";
import { live } from "/page/live.js";
import { absent, announce, chip, label, trouble } from "/page/parts.js";
import { record } from "/page/views/record.js";
import { timeline } from "/page/views/timeline.js";
import { t } from "/page/words.js";

const RANGES = [[60, "1m"], [600, "10m"], [3600, "1h"], [21600, "6h"], [86400, "24h"], [604800, "7d"]];
const STORE = "sinks:\n  db: {kind: sqlite, path: results/run.sqlite}";
const MOST = 200; // in the list and on the timeline, the newest

const chosen = { stream: "", label: "", open: false, range: 0 }; // for as long as the page is open

export function show(main, { name }) {
  chosen.range ||= live.snapshot?.elapsed_s > 600 ? 3600 : 600;
  const found = new Map(); // event id → document
  const list = h("ul", { class: "cards", "aria-label": t("events.list") });
  const counted = h("p", { class: "faint" });
  const note = h("div");
  const lanes = timeline((id) => go(id));
  const side = h("div", { class: "beside" });
  const split = h("div", { class: "split" }, h("div", { class: "listed" }, note, list), side);
  const more = h("button", { hidden: true, on: { click: () => read(cursor) } }, t("events.more"));
  const filters = h("form", { class: "filters", "aria-label": t("events.filters") });
  let cursor = null;
  let stored = true;
  let over = false;
  let opened = "";
  list.after(more);

  fill(main, h("div", { class: "head" }, h("h1", {}, t("nav.events")), counted), filters, lanes.element, split);

  const streams = h("select", { on: { change: (event) => choose({ stream: event.target.value }) } });
  const labels = h("input", { type: "search", value: chosen.label, list: "labels", autocomplete: "off", on: { change: (event) => choose({ label: event.target.value.trim() }) } });
  const suggestions = h("datalist", { id: "labels" });
  fill(
    filters,
    h("label", {}, t("events.stream"), streams),
    h("label", {}, t("events.label"), labels, suggestions),
    h("label", { class: "check" }, h("input", { type: "checkbox", checked: chosen.open, on: { change: (event) => choose({ open: event.target.checked }) } }), t("events.open_only")),
    h(
      "div",
      { class: "choices", role: "group", "aria-label": t("events.range") },
      RANGES.map(([seconds, key]) => h("button", { type: "button", "aria-pressed": String(seconds === chosen.range), on: { click: (event) => ranged(event.currentTarget, seconds) } }, t(`range.${key}`))),
    ),
  );
  filters.addEventListener("submit", (event) => event.preventDefault());

  function ranged(pressed, seconds) {
    for (const one of pressed.parentElement.children) one.setAttribute("aria-pressed", String(one === pressed));
    choose({ range: seconds });
  }

  function choose(change) {
    Object.assign(chosen, change);
    found.clear();
    read();
  }

  async function read(after = null) {
    const from = new Date(Date.now() - chosen.range * 1000).toISOString();
    try {
      const said = await get(`/api/events${query({ stream: chosen.stream, label: chosen.label, open: chosen.open ? "true" : "", from, after, limit: 100 })}`);
      if (over) return;
      for (const event of said.events) found.set(event.event, event);
      cursor = said.next;
      stored = true;
      fill(note);
    } catch (error) {
      if (over) return;
      stored = !error.absent;
      fill(note, error.absent ? absent(t("events.no_store"), t("events.no_store_how"), STORE) : trouble(error));
    }
    draw();
  }

  /* What the feed tells has no picture yet where it has only begun; the store knows it soon after. */
  function told(event) {
    const fits = (!chosen.stream || event.stream === chosen.stream) && (!chosen.label || event.label === chosen.label);
    if (!fits) return;
    const known = found.get(event.event);
    const open = event.type !== "end";
    if (!known) {
      announce(t("events.new", { label: event.label, stream: event.stream }));
      setTimeout(() => complete(event.event), 1200);
    }
    found.set(event.event, { picture: null, clip: null, ...known, ...event, open });
    if (chosen.open && !open) found.delete(event.event);
    if (event.event === opened && !open) openRecord(opened);
    draw();
  }

  async function complete(id) {
    if (over || !stored) return;
    const said = await get(`/api/events/${path(id)}`).catch(() => null);
    if (!said || !found.has(id)) return;
    found.set(id, { ...said.event, open: found.get(id).open && said.event.open !== false });
    draw();
  }

  function draw() {
    if (over) return;
    const since = Date.now() - chosen.range * 1000;
    const shown = [...found.values()].filter((one) => one.open || Date.parse(one.end) >= since).sort((one, two) => two.start.localeCompare(one.start)).slice(0, MOST);
    keyed(list, shown, (one) => one.event, (one) => card(one));
    for (const element of list.children) element.mark(opened);
    lanes.update(shown, since, opened);
    say(counted, shown.length ? t("events.counts", { n: shown.length, open: shown.filter((one) => one.open).length }) : stored ? t("events.none") : "");
    more.hidden = !cursor || shown.length >= MOST;
    const names = (live.snapshot?.streams ?? []).map((one) => one.stream);
    options(streams, ["", ...names]);
    fill(suggestions, [...new Set(shown.map((one) => one.label))].sort().map((one) => h("option", { value: one, translate: "no" })));
  }

  function options(select, names) {
    const now = names.join("\n");
    if (select.names === now) return;
    select.names = now;
    fill(select, names.map((one) => h("option", { value: one, translate: one ? "no" : null }, one || t("events.all"))));
    select.value = chosen.stream;
  }

  function go(id) {
    history.replaceState(null, "", `#/events/${path(id)}`);
    openRecord(id, true);
  }

  async function openRecord(id, moved = false) {
    opened = id;
    split.classList.toggle("opened", Boolean(id));
    draw();
    if (!id) return fill(side);
    try {
      const said = await get(`/api/events/${path(id)}`);
      if (over || opened !== id) return;
      const panel = record(said, () => {
        history.replaceState(null, "", "#/events");
        openRecord("");
        list.querySelector(`[data-event="${CSS.escape(id)}"]`)?.focus();
      });
      fill(side, panel);
      if (moved) panel.querySelector("h2").focus();
    } catch (error) {
      fill(side, error.absent ? absent(t("events.gone"), t("events.gone_how")) : trouble(error));
    }
  }

  function card(event) {
    const shot = h("div", { class: "shot" });
    const about = h("div", { class: "about" });
    const link = h("a", { class: "card", "data-event": event.event, href: `#/events/${path(event.event)}` }, shot, about);
    link.addEventListener("click", (pressed) => {
      if (pressed.ctrlKey || pressed.metaKey || pressed.shiftKey) return;
      pressed.preventDefault();
      go(event.event);
    });
    const element = h("li", {}, link);
    let picture = null;
    element.mark = (now) => (now === event.event ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
    element.update = (now) => {
      if (now.picture !== picture || !shot.firstChild) {
        picture = now.picture;
        fill(shot, picture ? h("img", { src: picture, alt: "", loading: "lazy" }) : h("span", { "aria-hidden": "true" }, "–"));
      }
      fill(about, h("div", { class: "row" }, label(now.label, now.count), now.open && chip(t("events.open"), "good")), raw(now.stream), h("span", { class: "faint", translate: "no" }, `${moment(now.start)} · ${duration((now.end_ns - now.start_ns) / 1e9)} · ${percent(now.best?.score, 0)}`));
    };
    return element;
  }

  const off = [live.on("event", told), live.on("gap", () => read()), live.on("streams", draw)];
  const clock = setInterval(() => document.hidden || draw(), 5000);
  read();
  if (name) openRecord(name, true);
  return () => {
    over = true;
    clearInterval(clock);
    off.forEach((one) => one());
    unkey(list);
  };
}
