/* One event's whole record: what was seen, which stage said so, by which threshold and rule, under which promise, and
   what the other stage says where that was asked. */

import { h, raw } from "/page/dom.js";
import { duration, millis, moment, number, percent } from "/page/format.js";
import { chip, facts, label, table, tool } from "/page/parts.js";
import { t, word } from "/page/words.js";

export function record({ event, decision, results, audit, rulings }, close) {
  const seconds = (Date.parse(event.end) - Date.parse(event.start)) / 1000;
  return h(
    "aside",
    { class: "panel record", "aria-label": t("record.title") },
    h("div", { class: "head" }, h("h2", { tabindex: -1 }, label(event.label, event.count), " ", raw(event.stream)), h("div", { class: "end" }, tool("close", t("record.close"), close))),
    event.picture && h("div", { class: "shot" }, h("img", { src: event.picture, alt: t("record.picture", { label: event.label, stream: event.stream }) })),
    event.clip && h("video", { src: event.clip, controls: true, preload: "metadata", playsinline: true, "aria-label": t("record.clip") }),
    facts([
      [t("record.when"), raw(`${moment(event.start)} – ${moment(event.end)}`)],
      [t("record.lasted"), raw(duration(seconds))],
      [t("record.state"), t(event.open ? "events.open" : "events.ended")],
      [t("record.best"), raw(percent(event.best?.score))],
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

function decided(decision) {
  const rule = decision.rule ?? {};
  return facts([
    [t("record.stage"), raw(decision.stage ?? "–")],
    [t("record.generation"), raw(decision.generation ?? "–")],
    [t("record.threshold"), decision.threshold !== null && decision.threshold !== undefined && raw(shown(decision.threshold))],
    [t("record.rule"), decision.rule && raw(typeof rule === "string" ? rule : rule.kind ?? "")],
    [t("record.settings"), typeof rule === "object" && h("pre", { tabindex: 0, translate: "no" }, lines(rule.settings ?? rule))],
    [t("record.promise"), decision.certified ? [chip(t("promise.certified"), "good"), " ", raw(decision.promise ?? "", { lang: "en" })] : chip(t("promise.uncertified"), "warn")],
  ]);
}

function shown(threshold) {
  return typeof threshold === "object" ? lines(threshold) : number(threshold, 2);
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
    said.length > 0 && h("p", {}, said.map((one) => [label(one.label), " ", raw(percent(one.score)), " "])),
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
