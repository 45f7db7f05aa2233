/* One stream, large: its picture, how it does, what was found of late. */

import { get, path, query } from "/page/api.js";
import { sparkline } from "/page/charts.js";
import { fill, h, raw, say } from "/page/dom.js";
import { many, moment, millis, number, percent, share, sum } from "/page/format.js";
import { icon } from "/page/icons.js";
import { live } from "/page/live.js";
import { absent, button, facts, figure, label, statePill, trouble } from "/page/parts.js";
import { seen, stage } from "/page/showing.js";
import { askForChange } from "/page/views/adding.js";
import { controls, known, rests, showFigures } from "/page/views/wall.js";
import { t, word } from "/page/words.js";

export function showOne(main, { name, mayChange }) {
  const state = h("span");
  const figures = ["rate", "p50", "p99", "flagged"].map((one) => figure(t(`figure.${one}`)));
  const how = figure(t("one.shown_by"), "–");
  const boxes = figure(t("one.latency"), "–");
  const rate = sparkline(t("one.rate_of_late"));
  const counts = h("div");
  const told = h("div");
  const wrong = h("div");
  const tools = h("div", { class: "row end" });
  const detail = h("p", { class: "detail", lang: "en", translate: "no" });
  const place = h("div", { class: "large" });
  const body = h("div", { class: "one" });
  let shown = null;
  let standing = "";
  fill(
    main,
    h(
      "div",
      { class: "head" },
      h("a", { class: "button quiet", href: "#/wall" }, icon("back"), h("span", {}, t("nav.wall"))),
      h("h1", { translate: "no" }, name),
      state,
      tools,
    ),
    wrong,
    body,
  );

  function begin(stream) {
    shown = stage(stream, { width: 1280, latest: 20 });
    fill(place, shown);
    const pill = statePill(stream);
    fill(state, pill);
    state.update = pill.update;
    fill(
      body,
      place,
      h(
        "aside",
        { class: "side", "aria-label": t("one.about", { name }) },
        detail,
        h("dl", { class: "figures" }, figures, seen(stream) && [how, boxes]),
        rate.element,
        counts,
        h("h2", {}, t("one.events")),
        told,
      ),
    );
  }

  function update() {
    if (!live.snapshot) return;
    const stream = known().find((one) => one.stream === name);
    if (!stream) {
      shown?.gone?.();
      shown = null;
      fill(body, absent(t("one.none", { name }), t("one.none_how")));
      fill(tools);
      standing = "";
      return;
    }
    if (!shown) begin(stream);
    state.update(stream);
    showFigures(figures, stream);
    how.update(shown.dataset.shows ? t(`one.by_${shown.dataset.shows}`) : "–");
    boxes.update(shown.dataset.latency ? millis(Number(shown.dataset.latency)) : "–");
    say(detail, stream.detail ?? "");
    rate.update(live.history.map(({ at, snapshot }) => [at, snapshot.streams.find((one) => one.stream === name)?.outcomes_per_s ?? 0]));
    fill(counts, facts(ledger(stream)));
    const now = `${stream.name} ${rests(stream)}`;
    if (now !== standing) {
      standing = now;
      const had = [...tools.children].indexOf(document.activeElement);
      fill(
        tools,
        place.requestFullscreen && button("full", t("one.full"), () => place.requestFullscreen()),
        mayChange && stream.name && !stream.track_of && button("settings", t("adding.change_do"), () => askForChange(stream)),
        mayChange && stream.name && !stream.track_of && controls(stream, (error) => fill(wrong, error && trouble(error)), () => (location.hash = "#/wall")),
      );
      tools.children[had]?.focus();
    }
  }

  async function events() {
    try {
      const said = await get(`/api/events${query({ stream: name, limit: 8 })}`);
      fill(told, said.events.length ? h("ul", { class: "plain" }, said.events.map(line)) : h("p", { class: "faint" }, t("events.none")));
    } catch (error) {
      fill(told, h("p", { class: "faint" }, error.absent ? t("events.no_store_short") : error.message));
    }
  }

  const off = [
    live.on("snapshot", update),
    live.on("streams", update),
    live.on("event", (event) => event.stream === name && event.type !== "update" && events()),
  ];
  update();
  events();
  return () => {
    off.forEach((one) => one());
    shown?.gone?.();
  };
}

function ledger(stream) {
  const decided = Object.entries(stream.decided_by ?? {}).map(([who, n]) => `${word("gate", who)} ${percent(share(n, stream.results))}`);
  const lost = Object.entries(stream.shed ?? {}).filter(([, n]) => n).map(([why, n]) => `${word("shed", why)} ${many(n)}`);
  return [
    [t("one.cascade"), raw(stream.cascade)],
    [t("one.kind"), stream.kind && raw(stream.kind)],
    [t("one.whip"), stream.whip && raw(new URL(stream.whip, location.href).href)],
    [t("flow.received"), raw(number(stream.received))],
    [t("flow.windows"), raw(number(stream.windows))],
    [t("one.decided_by"), decided.length > 0 && raw(decided.join(" · "))],
    [t("one.shed"), sum(stream.shed) > 0 && raw(lost.join(" · "))],
    [t("flow.failed"), stream.failed > 0 && raw(number(stream.failed))],
    [t("one.outages"), stream.outages > 0 && raw(number(stream.outages))],
  ];
}

function line(event) {
  return h(
    "li",
    {},
    h("a", { href: `#/events/${path(event.event)}` }, h("time", { datetime: event.start, translate: "no" }, moment(event.start)), label(event.label, event.count)),
  );
}
