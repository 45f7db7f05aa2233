/* One event's whole record: what was seen, which stage said so, by which threshold and rule, under which promise, and
   what the other stage says where that was asked. */

import { draw } from "/page/boxes.js";
import { h, raw } from "/page/dom.js";
import { duration, millis, moment, number, percent } from "/page/format.js";
import { chip, facts, label, table, tool } from "/page/parts.js";
import { t, word } from "/page/words.js";

export function record({ event, decision, results, audit, rulings }, close) {
  const seconds = (event.end_ns - event.start_ns) / 1e9; // of its own time: a film may be read faster or slower
  return h(
    "aside",
    { class: "panel record", "aria-label": t("record.title") },
    h("div", { class: "head" }, h("h2", { tabindex: -1 }, label(event.label, event.count), " ", raw(event.stream)), h("div", { class: "end" }, tool("close", t("record.close"), close))),
    event.picture && shot(event),
    event.clip && h("video", { src: event.clip, controls: true, preload: "metadata", playsinline: true, "aria-label": t("record.clip") }),
    facts([
      [t("record.when"), raw(`${moment(event.start)} – ${moment(event.end)}`)],
      [t("record.lasted"), raw(duration(seconds))],
      [t("record.state"), t(event.open ? "events.open" : "events.ended")],
      [t("record.best"), raw(percent(event.best?.score, 0))],
      [t("record.windows"), raw(number(event.windows))],
      [t("record.zone"), event.zone && raw(event.zone)],
      [t("record.track"), event.track && raw(event.track)],
      [t("record.id"), raw(event.event)],
    ]),
    h("h3", {}, t("record.decision")),
    decision ? decided(decision) : h("p", { class: "faint" }, t("record.unknown")),
    h("h3", {}, t("record.audit")),
    audited(audit),
    rulings?.length > 0 && [h("h3", {}, t("record.rulings")), h("ul", { class: "plain" }, rulings.map(ruled))],
    results?.length > 0 && windows(results),
  );
}

/** The event's picture with what was found in it. */
function shot(event) {
  const image = h("img", { src: event.picture, alt: t("record.picture", { label: event.label, stream: event.stream }) });
  const canvas = h("canvas", { "aria-hidden": "true" });
  const mark = () => draw(canvas, event.picture_shows);
  image.addEventListener("load", mark);
  new ResizeObserver(mark).observe(image);
  return h("div", { class: "shot" }, image, canvas);
}

function decided(decision) {
  const { kind, ...rule } = decision.thresholds ?? {};
  const is = (value) => value !== null && value !== undefined;
  return facts([
    [t("record.stage"), raw(decision.model && decision.model !== decision.stage ? `${decision.stage} (${decision.model})` : decision.stage)],
    [t("record.carried"), decision.carried_from && raw(`${word("gate", decision.decided_by)} ← ${decision.carried_from}`)],
    [t("record.generation"), raw(decision.generation)],
    [t("record.score"), is(decision.score) && raw(number(decision.score, 2))],
    [t("record.threshold"), is(decision.threshold) && raw(number(decision.threshold, 2))],
    [t("record.found_by"), decision.found_by !== decision.stage && decision.found_by && raw(decision.found_by)],
    [t("record.rule"), kind && raw(kind)],
    [t("record.settings"), kind && h("pre", { tabindex: 0, translate: "no" }, lines(rule))],
    [t("record.action"), decision.action && raw([word("action", decision.action), decision.rule].filter(Boolean).join(" · "))],
    [t("record.promise"), [decision.certified ? chip(t("promise.certified"), "good") : chip(t("promise.uncertified"), "warn"), " ", decision.promise && raw(decision.promise, { lang: "en" })]],
    [t("record.window"), raw(decision.window)],
  ]);
}

export function lines(settings) {
  return Object.entries(settings)
    .filter(([name, value]) => name !== "kind" && value !== null)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value).replaceAll('"', "").replaceAll(",", ", ").replaceAll(":", ": ") : value}`)
    .join("\n");
}

function audited(audit) {
  if (!audit) return h("p", { class: "faint" }, t("record.not_audited"));
  const said = audit.detections ?? [];
  return h(
    "div",
    {},
    h("p", {}, t(audit.missed ? "record.audit_missed" : audit.heavy_flagged ? "record.audit_agrees" : "record.audit_clear")),
    said.length > 0 && h("p", {}, said.map((one) => [label(one.label), " ", raw(percent(one.score, 0)), " "])),
    h("p", { class: "faint" }, t("record.audit_coin", { p: percent(audit.p) })),
  );
}

function ruled(ruling) {
  return h("li", {}, h("p", {}, chip(word("action", ruling.action), "warn"), " ", raw(`${ruling.rule} → ${(ruling.targets ?? []).join(", ")}`)), h("p", { class: "faint", translate: "no" }, `${moment(ruling.start)} – ${moment(ruling.end)}`));
}

function windows(results) {
  const rows = results.slice(0, 30).map((one) => [
    raw(moment(one.time)),
    raw(one.decided_by ?? word("outcome", one.outcome)),
    (one.detections ?? []).length ? raw(one.detections.slice(0, 3).map((found) => `${found.label} ${Math.round(found.score * 100)}`).join(", ")) : "–",
    raw(millis(one.latency_ms)),
  ]);
  return table(t("record.results", { n: results.length }), [t("record.when"), t("record.by"), t("record.found"), t("figure.latency")], rows);
}
