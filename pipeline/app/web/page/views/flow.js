/* The pipeline as it runs: where windows are, what settles them, what it costs, and that none is lost. */

import { sparkline } from "/page/charts.js";
import { fill, h, raw } from "/page/dom.js";
import { bytes, duration, many, millis, number, percent, perSecond, share, sum } from "/page/format.js";
import { live } from "/page/live.js";
import { chip, statePill, table } from "/page/parts.js";
import { cascadesOf, diagram } from "/page/views/diagram.js";
import { t, word } from "/page/words.js";

export function show(main) {
  const sparks = ["rate", "p99", "flight", "cpu", "memory"].map((one) => sparkline(t(`flow.${one}`)));
  const drawn = h("section", { class: "diagram", "aria-label": t("flow.diagram") });
  const tables = h("div", { class: "grid2" });
  fill(
    main,
    h("div", { class: "head" }, h("h1", {}, t("nav.flow"))),
    h("section", { class: "panel", "aria-label": t("flow.of_late") }, h("div", { class: "sparks" }, sparks.map((one) => one.element))),
    drawn,
    tables,
  );
  const panels = [ledgerOfFrames, ledgerOfWindows, stages, streams, sinks].map((make) => {
    const panel = h("section", { class: make === stages ? "panel wide" : "panel" }); // the widest of the tables
    tables.append(panel);
    return { panel, make, before: "" };
  });

  function update() {
    const now = live.snapshot;
    if (!now) return;
    traces(sparks);
    diagram(drawn, now);
    for (const one of panels) {
      if (one.panel.contains(document.activeElement)) {
        const had = one.panel.querySelector(".scroll");
        const fresh = one.make(now);
        had?.firstChild.replaceWith(fresh.querySelector?.("table") ?? fresh[0]?.querySelector("table"));
        continue;
      }
      fill(one.panel, one.make(now));
    }
  }
  const off = live.on("snapshot", update);
  update();
  const resized = new ResizeObserver(() => live.snapshot && diagram(drawn, live.snapshot));
  resized.observe(drawn);
  return () => {
    off();
    resized.disconnect();
  };
}

function traces([rate, p99, flight, cpu, memory]) {
  const now = live.snapshot;
  const over = (of) => live.history.map(({ at, snapshot }) => [at, of(snapshot)]);
  const rateOf = (one) => one.streams.reduce((total, stream) => total + stream.outcomes_per_s, 0);
  const flightOf = (one) => one.streams.reduce((total, stream) => total + stream.in_flight, 0);
  rate.update(over(rateOf), perSecond(rateOf(now)));
  p99.update(over((one) => one.latency.p99_ms), millis(now.latency.p99_ms));
  flight.update(over(flightOf), number(flightOf(now)));
  cpu.update(over((one) => one.cpu_percent), percent(now.cpu_percent / 100));
  memory.update(over((one) => one.rss_bytes), bytes(now.rss_bytes));
}

const total = (streams, name) => streams.reduce((all, one) => all + one[name], 0);

function balance(left, right) {
  return chip(t(left === right ? "flow.adds_up" : "flow.differs", { n: left - right }), left === right ? "good" : "bad");
}

function ledger(title, caption, heads, rows, [left, right], formula) {
  return h("div", { class: "panel-inner" }, table(h("span", {}, title), heads, rows, { "aria-label": caption }), h("p", { class: "row" }, balance(left, right), h("span", { class: "sums", translate: "no" }, formula)));
}

/** received = windows + sampled out + damaged + undecoded */
function ledgerOfFrames({ streams }) {
  const names = ["received", "windows", "sampled_out", "damaged", "undecoded"];
  const rows = streams.map((one) => [raw(one.stream), ...names.map((name) => number(one[name]))]);
  const sums = names.map((name) => total(streams, name));
  if (streams.length > 1) rows.push([t("flow.all"), ...sums.map((one) => number(one))]);
  const [received, ...parts] = sums;
  return ledger(t("flow.ledger_frames"), t("flow.ledger_frames"), [t("one.stream"), ...names.map((name) => t(`flow.${name}`))], rows, [received, sum(parts)], `${number(received)} = ${parts.map((one) => number(one)).join(" + ")}`);
}

/** windows = results + shed + failed + in flight */
function ledgerOfWindows({ streams }) {
  const reasons = [...new Set(streams.flatMap((one) => Object.keys(one.shed)))].sort();
  const of = (one) => [one.windows, one.results, ...reasons.map((why) => one.shed[why] ?? 0), one.failed, one.in_flight];
  const sums = streams.map(of).reduce((all, row) => all.map((n, index) => n + row[index]), of({ windows: 0, results: 0, shed: {}, failed: 0, in_flight: 0 }));
  const rows = streams.map((one) => [raw(one.stream), ...of(one).map((n) => number(n))]);
  if (streams.length > 1) rows.push([t("flow.all"), ...sums.map((one) => number(one))]);
  const heads = [t("one.stream"), t("flow.windows"), t("flow.results"), ...reasons.map((why) => t("flow.shed", { why: word("shed", why) })), t("flow.failed"), t("flow.in_flight")];
  const [windows, ...parts] = sums;
  return ledger(t("flow.ledger_windows"), t("flow.ledger_windows"), heads, rows, [windows, sum(parts)], `${number(windows)} = ${parts.map((one) => number(one)).join(" + ")}`);
}

function stages(now) {
  const settled = new Map(cascadesOf(now).flatMap((one) => one.stages.map((stage) => [`${one.name}/${stage.stage}`, stage.settled])));
  const rows = now.stages.map((one) => [
    h("span", {}, raw(`${one.cascade} / ${one.stage}`), one.state !== "ok" && [" ", chip(word("stage", one.state), "bad")]),
    number(one.waiting),
    batches(one),
    millis(one.service.p50_ms),
    millis(one.service.p90_ms),
    millis(one.service.p99_ms),
    percent(one.busy_share),
    percent(settled.get(`${one.cascade}/${one.stage}`)),
    number(one.errors),
  ]);
  return table(t("flow.stages"), [t("flow.stage"), t("flow.waiting"), t("flow.batch"), ...quantiles(), t("flow.busy"), t("flow.settled"), t("flow.errors")], rows);
}

const quantiles = () => ["p50", "p90", "p99"].map((one) => t(`figure.${one}`));

/** The mean, and the largest that came. */
function batches(stage) {
  if (!stage.batches) return "–";
  const sizes = Object.keys(stage.batch_sizes).map(Number);
  return t("flow.batch_of", { mean: number(stage.views / stage.batches, 1), most: number(Math.max(...sizes, 1)) });
}

function streams({ streams: all }) {
  const rows = all.map((one) => [
    raw(one.stream),
    statePill(one),
    perSecond(one.received_per_s),
    perSecond(one.outcomes_per_s),
    millis(one.latency.p50_ms),
    millis(one.latency.p90_ms),
    millis(one.latency.p99_ms),
    one.outages ? t("flow.outages", { n: one.outages, time: duration(one.outage_s) }) : "–",
  ]);
  return table(t("flow.streams"), [t("one.stream"), t("record.state"), t("flow.in"), t("flow.out"), ...quantiles(), t("flow.outage")], rows);
}

function sinks({ sinks: all }) {
  const rows = all.map((one) => [
    raw(one.sink),
    h("span", { class: one.state === "ok" ? "" : "warn", title: one.detail }, word("sink", one.state)),
    many(one.written),
    number(one.waiting),
    number(one.dropped),
    number(one.refused),
    number(one.retries),
    one.outbox ? number(one.outbox.waiting) : "–",
  ]);
  return table(t("flow.sinks"), [t("flow.sink"), t("record.state"), t("flow.written"), t("flow.waiting"), t("flow.dropped"), t("flow.refused"), t("flow.retries"), t("flow.outbox")], rows);
}
