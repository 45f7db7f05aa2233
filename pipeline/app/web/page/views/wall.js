/* Every stream at a glance; one of them large. */

import { path, patch, remove } from "/page/api.js";
import { askForCamera } from "/page/camera.js";
import { confirm } from "/page/dialog.js";
import { fill, h, keyed, say, unkey } from "/page/dom.js";
import { millis, percent, perSecond, share } from "/page/format.js";
import { live } from "/page/live.js";
import { absent, announce, button, figure, statePill, tool, trouble } from "/page/parts.js";
import { stage } from "/page/showing.js";
import { askForStream } from "/page/views/adding.js";
import { showOne } from "/page/views/one.js";
import { t } from "/page/words.js";

export function show(main, context) {
  return context.name ? showOne(main, context) : showAll(main, context);
}

function showAll(main, { mayChange }) {
  const wall = h("ul", { class: "wall", "aria-label": t("wall.streams") });
  const counted = h("p", { class: "faint" });
  const wrong = h("div");
  const empty = h("div");
  fill(
    main,
    h(
      "div",
      { class: "head" },
      h("h1", {}, t("nav.wall")),
      counted,
      mayChange &&
        h(
          "div",
          { class: "row end" },
          button("camera", t("camera.use"), askForCamera),
          button("add", t("wall.add"), askForStream, { class: "main" }),
        ),
    ),
    wrong,
    wall,
    empty,
  );

  function update() {
    if (!live.snapshot) return;
    const streams = known();
    wall.dataset.count = streams.length;
    say(counted, counts(streams));
    keyed(wall, streams, (one) => `${one.stream} ${one.medium}`, (one) => tile(one, mayChange, wrong));
    if (streams.length) fill(empty);
    else if (!empty.firstChild) fill(empty, absent(t("wall.none"), t("wall.none_how")));
  }
  const off = [live.on("snapshot", update), live.on("streams", update)];
  update();
  return () => {
    off.forEach((one) => one());
    unkey(wall);
  };
}

/** What runs by the newest snapshot, with what only the list of streams knows of it (whether it is paused, its kind). */
export function known() {
  const listed = new Map((live.streams ?? []).map((one) => [one.name, one]));
  const running = (live.snapshot?.streams ?? []).map((one) => ({ medium: "picture", ...listed.get(one.stream), ...one }));
  const names = new Set(running.map((one) => one.stream));
  const rest = [...listed.values()].filter((one) => !names.has(one.name)).map((one) => ({ ...one, stream: one.name }));
  return [...running, ...rest];
}

function counts(streams) {
  const alive = streams.filter((one) => one.state === "live" && !one.paused).length;
  return t("wall.counts", { n: streams.length, alive });
}

function tile(stream, mayChange, wrong) {
  const name = stream.stream;
  const state = statePill(stream);
  const figures = [
    figure(t("figure.rate")),
    figure(t("figure.p50")),
    figure(t("figure.p99")),
    figure(t("figure.flagged")),
  ];
  const detail = h("p", { class: "detail", lang: "en", translate: "no" });
  const shown = stage(stream, { width: 640 });
  const tools = h("div", { class: "row" });
  const element = h(
    "li",
    { class: "tile", "data-stream": name },
    h("a", { class: "look", href: `#/wall/${path(name)}`, "aria-label": t("wall.open", { name }) }, shown),
    h("div", { class: "title" }, h("h2", { translate: "no" }, name), state, tools),
    h("dl", { class: "figures" }, figures),
    detail,
  );
  let standing = null;
  element.update = (now) => {
    state.update(now);
    showFigures(figures, now);
    say(detail, now.state === "live" || now.paused ? "" : now.detail ?? "");
    element.classList.toggle("asleep", Boolean(now.paused) || now.state === "ended" || now.state === "failed");
    if (mayChange && now.name && !now.track_of && rests(now) !== standing) {
      standing = rests(now);
      const had = tools.contains(document.activeElement);
      fill(tools, controls(now, (error) => fill(wrong, error && trouble(error))));
      if (had) tools.querySelector("button").focus();
    }
  };
  element.gone = () => shown.gone?.();
  return element;
}

export function showFigures([rate, p50, p99, flagged], now) {
  rate.update(perSecond(now.outcomes_per_s ?? 0));
  p50.update(millis(now.latency?.count ? now.latency.p50_ms : null));
  p99.update(millis(now.latency?.count ? now.latency.p99_ms : null));
  flagged.update(percent(now.results ? share(now.flagged, now.results) : null));
}

/** Whether there is something to resume: a stream that is paused, or one that has ended and may begin anew. */
export function rests(stream) {
  return Boolean(stream.paused) || stream.state === "ended" || stream.state === "failed";
}

/** What an operator may do to a stream. `told` is called with what went wrong, or nothing. */
export function controls(stream, told, after = () => {}) {
  const { name } = stream;
  const doing = async (act) => {
    try {
      told(null);
      await act();
    } catch (error) {
      told(error);
    }
    await live.refreshStreams();
  };
  return [
    rests(stream)
      ? tool("play", t("wall.resume", { name }), () => doing(async () => {
          await patch(`/api/streams/${path(name)}`, { paused: false });
          announce(t("wall.resumed", { name }));
        }))
      : tool("pause", t("wall.pause", { name }), () => doing(async () => {
          await patch(`/api/streams/${path(name)}`, { paused: true });
          announce(t("wall.paused", { name }));
        })),
    tool("remove", t("wall.remove", { name }), () =>
      confirm(t("wall.remove", { name }), t("wall.remove_sure", { name }), t("wall.remove_do"), async () => {
        await remove(`/api/streams/${path(name)}`);
        announce(t("wall.removed", { name }));
        await live.refreshStreams();
        after();
      }),
    ),
  ];
}
