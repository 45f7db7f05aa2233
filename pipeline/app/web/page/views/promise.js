/* What was promised, whether it still holds, and what other thresholds would have cost. */

import { get, path } from "/page/api.js";
import { chart } from "/page/charts.js";
import { fill, h, raw } from "/page/dom.js";
import { day, moment, number, percent } from "/page/format.js";
import { live } from "/page/live.js";
import { absent, chip, facts, figure, trouble } from "/page/parts.js";
import { replay } from "/page/views/replay.js";
import { lines } from "/page/views/record.js";
import { t, word } from "/page/words.js";

const EVERY_MS = 10000;
const STATES = { confirmed: "good", unproven: "info", broken: "bad" };

export function show(main) {
  const place = h("div", { class: "cascades" });
  let over = false;
  let shown = new Map();
  fill(main, h("div", { class: "head" }, h("h1", {}, t("nav.promise"))), place);

  async function read() {
    try {
      const { cascades } = await get("/api/promise");
      if (over) return;
      if (!cascades.length) return fill(place, absent(t("promise.none"), t("promise.none_how")));
      const names = cascades.map((one) => `${one.cascade} ${one.generation}`);
      if (names.join() !== [...shown.keys()].join()) {
        shown = new Map(cascades.map((one, index) => [names[index], section(one)]));
        fill(place, [...shown.values()].map((one) => one.element));
      }
      cascades.forEach((one, index) => shown.get(names[index]).update(one));
    } catch (error) {
      if (over) return;
      shown = new Map();
      fill(place, error.absent ? absent(t("promise.absent"), t("promise.absent_how")) : trouble(error));
    }
  }
  read();
  const clock = setInterval(() => document.hidden || read(), EVERY_MS);
  const off = [live.on("audit", soon(read))];
  return () => {
    over = true;
    clearInterval(clock);
    off.forEach((one) => one());
  };
}

/* Audits may come many a second. */
function soon(act) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      act();
    }, 2000);
  };
}

function section(cascade) {
  const audit = h("div", { class: "panel" });
  const element = h(
    "section",
    { class: "cascade", "aria-labelledby": `promise-${cascade.cascade}` },
    h("div", { class: "verdict" }, h("h2", { id: `promise-${cascade.cascade}`, translate: "no" }, cascade.cascade), raw(cascade.generation, { class: "faint" }), cascade.certified ? chip(t("promise.certified"), "good") : chip(t("promise.uncertified"), "warn")),
    h("div", { class: "grid2" }, h("div", { class: "panel" }, certificate(cascade)), audit),
    replay(cascade),
  );
  let before = "";
  return {
    element,
    update(now) {
      const said = JSON.stringify([now.audit, now.history?.length, now.effective_recall]);
      if (said === before) return;
      before = said;
      fill(audit, audited(now));
    },
  };
}

function certificate({ certificate: given, promise, advice }) {
  if (!given) return [h("h3", {}, t("promise.certificate")), h("p", { class: "plainly" }, t("promise.no_certificate")), h("p", { class: "faint", lang: "en", translate: "no" }, advice)];
  const { proof = {}, saving = {}, data = {}, rule = {} } = given;
  return [
    h("h3", {}, t("promise.certificate")),
    h(
      "p",
      { class: "plainly" },
      t(proof.against === "truth" ? "promise.plain_truth" : "promise.plain_heavy", {
        alpha: percent(proof.alpha),
        sure: percent(1 - proof.delta),
        positives: proof.positives,
        misses: proof.misses,
      }),
      " ",
      proof.alpha_false !== null && proof.alpha_false !== undefined && t("promise.plain_false", { alpha: percent(proof.alpha_false), alarms: proof.false_alarms, negatives: proof.negatives }),
      " ",
      saving.heavy_time !== undefined && t("promise.plain_saving", { units: percent(saving.units), time: percent(saving.heavy_time) }),
    ),
    promise && h("p", { class: "faint", lang: "en", translate: "no" }, promise),
    facts([
      [t("promise.data"), data.source && raw(data.source)],
      [t("promise.unit"), data.unit && raw(data.unit, { lang: "en" })],
      [t("promise.units"), data.units !== undefined && raw(number(data.units))],
      [t("promise.thresholds"), rule.calibrated && h("pre", { tabindex: 0, translate: "no" }, lines(rule.calibrated))],
      [t("promise.models"), given.cheap && raw(`${given.cheap.model} → ${given.heavy?.model ?? ""}`)],
      [t("promise.made"), given.created && raw(day(given.created))],
    ]),
    classes(proof.classes),
  ];
}

function classes(said) {
  const names = Object.keys(said ?? {});
  if (!names.length) return null;
  return h("details", {}, h("summary", {}, t("promise.classes")), facts(names.map((name) => [raw(name), t("promise.class_may", { share: percent(said[name].share), loss: percent(said[name].may_lose) })])));
}

/* The key is a secret: whoever knows it knows which windows are looked at again. */
const AUDIT = (name) => `# AUDIT_KEY=$(openssl rand -hex 16)
cascades:
  ${name}:
    base: ${name}  # or what it is made of now
    audit: {share: 0.02, alpha: 0.02, key: "\${AUDIT_KEY}"}`;

function audited({ cascade, audit, history = [], effective_recall: recall }) {
  if (!audit) return [h("h3", {}, t("promise.audit")), h("p", { class: "plainly" }, t("promise.no_audit")), h("pre", { tabindex: 0, translate: "no" }, AUDIT(cascade))];
  const report = audit.report;
  const skipped = Object.entries(audit.skipped ?? {}).filter(([, n]) => n);
  const proved = report.estimate !== null && report.estimate !== undefined;
  return [
    h("div", { class: "verdict" }, h("h3", {}, t("promise.audit")), chip(word("audit", report.state), STATES[report.state] ?? "warn"), report.alarm && chip(word("alarm", report.alarm), "bad")),
    h("p", { class: "plainly" }, t(`promise.audit_${report.state}`, { alpha: percent(report.alpha), upper: percent(report.upper), lower: percent(report.lower), sure: percent(1 - report.delta) })),
    h(
      "dl",
      { class: "pairs" },
      figure(t("promise.missed"), proved ? percent(report.estimate) : "–"),
      figure(t("promise.bounds"), `${percent(report.lower)} – ${percent(report.upper)}`),
      figure(t("promise.worst"), percent(report.worst)),
      figure(t("promise.recall"), percent(recall)),
      figure(t("promise.audited"), number(report.audited)),
      figure(t("promise.misses"), number(report.missed)),
      figure(t("promise.unseen"), number(report.unseen)),
      figure(t("promise.waiting"), number(audit.waiting)),
    ),
    report.alarm && h("p", { class: "bad", lang: "en", translate: "no" }, advice),
    history.length > 1 ? bounds(history, report) : h("p", { class: "faint" }, t("promise.no_history")),
    report.outlook && h("p", { class: "faint" }, h("strong", {}, t("promise.outlook")), " ", raw(report.outlook, { lang: "en" })),
    skipped.length > 0 && h("p", { class: "faint" }, t("promise.skipped"), " ", raw(skipped.map(([why, n]) => `${why} ${number(n)}`).join(" · "), { lang: "en" })),
    audit.problem && h("p", { class: "bad", lang: "en", translate: "no" }, audit.problem),
  ];
}

function bounds(history, report) {
  const at = (one) => Date.parse(one.time);
  const has = history.filter((one) => one.estimate !== null && one.estimate !== undefined);
  const last = history.at(-1);
  const top = Math.min(1, Math.max(report.alpha * 3, last.upper * 1.3, ...history.slice(Math.floor(history.length / 4)).map((one) => one.upper)));
  return h(
    "figure",
    {},
    h("figcaption", { class: "faint" }, t("promise.over_time")),
    chart({
      name: t("promise.chart", { lower: percent(last.lower), upper: percent(last.upper), alpha: percent(report.alpha) }),
      band: history.map((one) => [at(one), one.lower, one.upper]),
      lines: [
        { points: has.map((one) => [at(one), one.estimate]) },
        { points: history.filter((one) => one.worst !== null && one.worst !== undefined).map((one) => [at(one), one.worst]), look: "worst" },
      ],
      levels: [{ y: report.alpha, text: t("promise.allowed", { alpha: percent(report.alpha) }) }],
      top,
      textX: (time) => moment(time),
      textY: (one) => percent(one),
    }),
  );
}
