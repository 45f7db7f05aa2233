/* Other thresholds over stored scores: what they would have cost, and missed. Nothing changes by looking. */

import { get, path } from "/page/api.js";
import { chart } from "/page/charts.js";
import { fill, h, raw, say } from "/page/dom.js";
import { number, percent } from "/page/format.js";
import { chip, figure } from "/page/parts.js";
import { lines } from "/page/views/record.js";
import { t } from "/page/words.js";

export function replay({ cascade, replay: kept }) {
  const place = h("div", { class: "panel-inner" });
  const panel = h("div", { class: "panel" }, h("h3", {}, t("replay.title")), place);
  const none = (text = "") => fill(place, h("p", { class: "faint" }, t("replay.none")), text && h("p", { class: "detail", lang: "en", translate: "no" }, text));
  if (!kept) {
    none();
    return panel;
  }
  fill(place, h("p", { class: "faint" }, t("replay.reading")));
  get(`/api/promise/${path(cascade)}/replay`).then(
    (said) => (said.points?.length ? fill(place, slider(said, cascade)) : none()),
    (error) => none(error.message),
  );
  return panel;
}

/* Each is a share of 1; one that the scores cannot tell is left out. */
const FIGURES = ["escalated", "cost", "missed", "truly_missed", "false"];
const COUNTS = { missed: ["missed_units", "positives"], truly_missed: ["truly_missed_units", "true_positives"], false: ["false_units", "others"] };
const is = (value) => value !== null && value !== undefined;

function slider({ now, points, scores = {}, remarks = [] }, name) {
  const start = nearest(points, now);
  const given = FIGURES.filter((key) => points.some((one) => is(one[key])));
  const figures = given.map((key) => figure(t(`replay.${key}`)));
  const config = h("pre", { tabindex: 0, translate: "no" });
  const chosen = h("output", { for: `replay-${name}`, translate: "no" });
  const proved = h("p");
  const drawn = h("div");
  const range = h("input", { type: "range", id: `replay-${name}`, min: 0, max: points.length - 1, step: 1, value: start });
  const back = h("button", { type: "button", on: { click: () => set(start) } }, t("replay.back"));

  function set(index) {
    range.value = index;
    update();
  }

  function update() {
    const point = points[range.value];
    given.forEach((key, index) => {
      figures[index].update(percent(point[key]));
      const [counted, of] = (COUNTS[key] ?? []).map((one) => point[one]);
      const notes = [is(counted) && is(of) && t("replay.of", { n: counted, all: of }), is(now[key]) && now[key] !== point[key] && t("replay.now", { value: percent(now[key]) })];
      figures[index].lastChild.append(h("span", { class: "change" }, ` ${notes.filter(Boolean).join(" · ")}`));
    });
    say(chosen, number(point.threshold, 2));
    say(config, (point.config ?? lines(point.settings)).trimEnd());
    fill(proved, point.covered ? chip(t("replay.covered"), "good") : chip(t("replay.uncovered"), "warn"));
    range.setAttribute("aria-valuetext", [number(point.threshold, 2), ...given.map((key) => `${t(`replay.${key}`)} ${percent(point[key])}`)].join("; "));
    back.disabled = Number(range.value) === start;
    fill(drawn, curve(points, point, now));
  }

  range.addEventListener("input", update);
  update();
  return [
    h("p", { class: "plainly" }, t("replay.what", { n: scores.units ?? 0 })),
    h(
      "div",
      { class: "grid2" },
      h(
        "div",
        { class: "slider" },
        h("div", { class: "row" }, h("label", { for: `replay-${name}` }, t("replay.threshold")), chosen),
        range,
        h("div", { class: "row faint" }, h("span", {}, t("replay.careful")), h("span", { class: "end" }, t("replay.cheap"))),
        h("dl", { class: "pairs" }, figures),
        h("div", { class: "row" }, proved, back),
      ),
      drawn,
    ),
    h("details", {}, h("summary", {}, t("replay.config")), h("div", { class: "panel-inner" }, config, h("ul", { class: "faint remarks", lang: "en", translate: "no" }, remarks.map((one) => h("li", {}, one))))),
    h("p", { class: "faint" }, t("replay.unchanged")),
  ];
}

/** The point that is what runs, or does most nearly what it does: the ladder need not have its very threshold. */
function nearest(points, now) {
  const same = points.findIndex((one) => JSON.stringify(one.settings) === JSON.stringify(now.settings));
  if (same >= 0) return same;
  const apart = (one) => Math.abs((one.escalated ?? 0) - (now.escalated ?? 0));
  return points.reduce((best, one, index) => (apart(one) < apart(points[best]) ? index : best), 0);
}

function curve(points, point, now) {
  const cost = (one) => one.cost ?? one.escalated ?? 0;
  const missed = (one) => (is(one.truly_missed) ? one.truly_missed : one.missed) ?? 0;
  const at = points.map((one) => [cost(one), missed(one)]).sort(([one], [two]) => one - two);
  const top = Math.max(...at.map(([, share]) => share), 0.01) * 1.1;
  return h(
    "figure",
    {},
    h("figcaption", { class: "faint" }, t("replay.curve")),
    chart({
      name: t("replay.chart", { cost: percent(cost(point)), missed: percent(missed(point)) }),
      lines: [{ points: at }],
      dots: [[cost(now), missed(now)]],
      mark: [cost(point), missed(point)],
      top,
      textX: (one) => percent(one),
      textY: (one) => percent(one),
    }),
  );
}
