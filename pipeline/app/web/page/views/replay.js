/* Other thresholds over stored scores: what they would have cost, and missed. Nothing changes by looking. */

import { get, path } from "/page/api.js";
import { chart } from "/page/charts.js";
import { fill, h, raw, say } from "/page/dom.js";
import { number, percent } from "/page/format.js";
import { figure } from "/page/parts.js";
import { lines } from "/page/views/record.js";
import { t } from "/page/words.js";

export function replay(cascade) {
  const panel = h("div", { class: "panel" }, h("h3", {}, t("replay.title")));
  const place = h("div", { class: "panel-inner" });
  panel.append(place);
  if (cascade.replay === false) {
    fill(place, h("p", { class: "faint" }, t("replay.none")), h("pre", { tabindex: 0, translate: "no" }, "thresher calibrate CONFIG --data FOLDER --scores SCORES"));
  } else {
    fill(place, h("p", { class: "faint" }, t("replay.reading")));
    get(`/api/promise/${path(cascade.cascade)}/replay`).then(
      (said) => fill(place, said.points?.length ? slider(said, cascade.cascade) : h("p", { class: "faint" }, t("replay.none"))),
      (error) => fill(place, h("p", { class: "faint" }, error.absent ? t("replay.none") : raw(error.message, { lang: "en" }))),
    );
  }
  return panel;
}

const FIGURES = ["escalated", "cost", "missed", "false"];
const is = (value) => value !== null && value !== undefined;

function slider({ now, points, units }, name) {
  const start = Math.max(0, points.findIndex((one) => JSON.stringify(one.settings) === JSON.stringify(now?.settings)));
  const given = FIGURES.filter((key) => points.some((one) => is(one[key])));
  const figures = given.map((key) => figure(t(`replay.${key}`)));
  const settings = h("pre", { tabindex: 0, translate: "no" });
  const drawn = h("div");
  const range = h("input", { type: "range", id: `replay-${name}`, min: 0, max: points.length - 1, step: 1, value: start });
  const back = h("button", { type: "button", on: { click: () => set(start) } }, t("replay.back"));
  const rates = points.every((one) => is(one.missed) && one.missed <= 1 && is(one.cost ?? one.escalated));

  function set(index) {
    range.value = index;
    update();
  }

  function update() {
    const point = points[range.value];
    const before = now ?? points[start];
    given.forEach((key, index) => {
      figures[index].update(shown(point[key]));
      const change = is(before?.[key]) && is(point[key]) && point[key] !== before[key] ? t("replay.now", { value: shown(before[key]) }) : "";
      figures[index].lastChild.append(change ? h("span", { class: "change" }, ` ${change}`) : "");
    });
    say(settings, lines(point.settings));
    range.setAttribute("aria-valuetext", `${lines(point.settings)}; ${given.map((key) => `${t(`replay.${key}`)} ${shown(point[key])}`).join("; ")}`);
    back.disabled = Number(range.value) === start;
    if (rates) fill(drawn, curve(points, point));
  }

  range.addEventListener("input", update);
  update();
  return h(
    "div",
    { class: "grid2" },
    h(
      "div",
      { class: "slider" },
      h("p", {}, t("replay.what", { n: units ?? now?.units ?? points[0].units ?? "" })),
      h("label", { for: `replay-${name}` }, t("replay.threshold")),
      range,
      h("div", { class: "row faint" }, h("span", {}, t("replay.careful")), h("span", { class: "end" }, t("replay.cheap"))),
      h("dl", { class: "pairs" }, figures),
      settings,
      h("div", { class: "row" }, back),
      h("p", { class: "faint" }, t("replay.unchanged")),
    ),
    rates && drawn,
  );
}

const shown = (value) => (!is(value) ? "–" : value >= 0 && value <= 1 ? percent(value) : number(value, value < 100 ? 1 : 0));

function curve(points, point) {
  const cost = (one) => one.cost ?? one.escalated;
  const at = points.map((one) => [cost(one), one.missed]).sort(([one], [two]) => one - two);
  const top = Math.max(...points.map((one) => one.missed), 0.01) * 1.1;
  return h(
    "figure",
    {},
    h("figcaption", { class: "faint" }, t("replay.curve")),
    chart({ name: t("replay.chart", { cost: shown(cost(point)), missed: percent(point.missed) }), lines: [{ points: at }], mark: [cost(point), point.missed], top, textX: (one) => percent(one), textY: (one) => percent(one) }),
  );
}
