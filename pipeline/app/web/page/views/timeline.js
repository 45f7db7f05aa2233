/* Events as bars, a lane for each stream. For the eye; the list beside it says the same in words. */

import { fill, h, svg } from "/page/dom.js";
import { moment } from "/page/format.js";
import { hue } from "/page/parts.js";
import { t } from "/page/words.js";

const [LANE, NAMES, FOOT] = [26, 120, 20];
const LEAST = 4; // a bar can be seen and hit, however short the event

/** `update(events, since, chosen)`; `pick(id)` is called for the bar that was pressed. */
export function timeline(pick) {
  const picture = svg("svg", { role: "img" });
  const element = h("div", { class: "lanes" }, picture);
  let drawn = null;

  function draw() {
    if (!drawn || !element.clientWidth) return;
    const [events, since, chosen] = drawn;
    const wide = element.clientWidth - 24;
    const names = wide < 500 ? 74 : NAMES;
    const now = Date.now();
    const streams = [...new Set(events.map((one) => one.stream))].sort();
    const high = Math.max(streams.length, 1) * LANE + FOOT;
    const x = (time) => names + ((Math.max(time, since) - since) / (now - since)) * (wide - names);
    const few = wide < 500 ? 2 : 6;
    const marks = Array.from({ length: few + 1 }, (_, index) => since + ((now - since) * index) / few);
    picture.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    picture.setAttribute("height", high);
    picture.setAttribute("aria-label", t("events.timeline", { n: events.length, streams: streams.length }));
    fill(
      picture,
      (streams.length ? streams : [""]).map((stream, lane) => [
        svg("line", { class: "lane", x1: names, x2: wide, y1: (lane + 0.5) * LANE, y2: (lane + 0.5) * LANE }),
        svg("text", { class: "name", x: 0, y: (lane + 0.5) * LANE + 4, translate: "no" }, short(stream, names / 8)),
      ]),
      marks.map((time, index) =>
        svg("text", { x: x(time), y: high - 3, translate: "no", "text-anchor": index === 0 ? "start" : index === few ? "end" : "middle" }, moment(time, { short: now - since > 700000 })),
      ),
      events.map((one) => {
        const [left, right] = [x(Date.parse(one.start)), x(one.open ? now : Date.parse(one.end))];
        const bar = svg(
          "rect",
          {
            class: `event${one.open ? " open" : ""}${one.event === chosen ? " chosen" : ""}`,
            css: { "--hue": hue(one.label) },
            x: Math.min(left, wide - LEAST),
            y: streams.indexOf(one.stream) * LANE + 5,
            width: Math.max(right - left, LEAST),
            height: LANE - 10,
            rx: 2,
            translate: "no",
            on: { click: () => pick(one.event) },
          },
          svg("title", {}, `${one.label} · ${moment(one.start)}`),
        );
        return bar;
      }),
    );
  }

  new ResizeObserver(draw).observe(element);
  return {
    element,
    update(...now) {
      drawn = now;
      draw();
    },
  };
}

function short(name, most) {
  return name.length > most ? `${name.slice(0, Math.floor(most) - 1)}…` : name;
}
