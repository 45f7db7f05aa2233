/* Sources → gate → cheap → heavy → sinks, a row for each cascade; how broad a way is tells how much goes along it.
   On a narrow screen it runs downwards. For the eye: the tables below say the same. */

import { fill, svg } from "/page/dom.js";
import { many, millis, number, percent, perSecond, share, sum } from "/page/format.js";
import { t } from "/page/words.js";

const [WIDE, HIGH] = [190, 92]; // a station
const TEXT = 17;

/** What each cascade does, from its streams and stages. `reach`: share of results that came so far; `settled`: share that
    ended there. */
export function cascadesOf({ streams, stages }) {
  const names = [...new Set([...stages.map((one) => one.cascade), ...streams.map((one) => one.cascade)])];
  return names.map((name) => {
    const mine = streams.filter((one) => one.cascade === name);
    const own = stages.filter((one) => one.cascade === name);
    const results = mine.reduce((all, one) => all + one.results, 0);
    const decided = {};
    for (const one of mine) for (const [who, n] of Object.entries(one.decided_by)) decided[who] = (decided[who] ?? 0) + n;
    const byStage = own.reduce((all, stage) => all + (decided[stage.stage] ?? 0), 0);
    const gate = share(sum(decided) - byStage, results);
    let reach = 1 - gate;
    const shown = own.map((stage) => {
      const settled = share(decided[stage.stage] ?? 0, results);
      const one = { ...stage, settled, reach };
      reach = Math.max(reach - settled, 0);
      return one;
    });
    return { name, streams: mine, stages: shown, gate, results };
  });
}

export function diagram(place, now) {
  const wide = place.clientWidth - 24;
  if (wide <= 0) return;
  const down = wide < 760;
  const cascades = cascadesOf(now);
  const columns = 3 + Math.max(1, ...cascades.map((one) => one.stages.length));
  const gap = down ? 34 : Math.max(34, (wide - columns * WIDE) / (columns - 1));
  const step = down ? HIGH + gap : WIDE + gap;
  const across = down ? Math.max(wide, WIDE) : columns * WIDE + (columns - 1) * gap;
  const rowHigh = down ? columns * step + 26 : HIGH + 46;
  let top = 0;
  const rows = cascades.map((cascade) => {
    const own = stations(cascade, now);
    const at = (index) => (down ? [(across - WIDE) / 2, top + 26 + index * step] : [index * step, top + 26]);
    const row = [
      svg("text", { class: "name", x: 0, y: top + 16, translate: "no" }, `${cascade.name}`),
      own.map((one, index) => index > 0 && way(at(index - 1), at(index), one.share, down)),
      own.map((one, index) => station(at(index), one)),
    ];
    top += down ? own.length * step + 14 : rowHigh;
    return row;
  });
  const had = place.querySelector("svg");
  const picture = had ?? svg("svg", { class: "flow", role: "img" });
  picture.setAttribute("viewBox", `0 0 ${across} ${top}`);
  picture.setAttribute("aria-label", t("flow.picture", { n: cascades.length }));
  fill(picture, rows);
  if (!had) fill(place, picture);
}

function stations(cascade, { sinks }) {
  const { streams, stages, gate } = cascade;
  const rate = streams.reduce((all, one) => all + one.received_per_s, 0);
  const out = streams.reduce((all, one) => all + one.outcomes_per_s, 0);
  const lost = streams.reduce((all, one) => all + sum(one.shed) + one.failed, 0);
  const flagged = streams.reduce((all, one) => all + one.flagged, 0);
  const waiting = sinks.reduce((all, one) => all + one.waiting, 0);
  return [
    {
      title: streams.length === 1 ? streams[0].stream : t("flow.sources", { n: streams.length }),
      lines: [perSecond(rate), t("flow.of_live", { n: streams.filter((one) => one.state === "live").length, all: streams.length })],
    },
    { title: t("flow.gate"), own: true, share: 1, lines: [t("flow.settles", { share: percent(gate) }), t("flow.drops", { n: many(lost) })] },
    ...stages.map((one) => ({
      title: one.stage,
      share: one.reach,
      busy: one.busy_share,
      hangs: one.state !== "ok",
      lines: [
        t("flow.settles", { share: percent(one.settled) }),
        `${t("figure.p50")} ${millis(one.service.p50_ms)} · ${t("figure.p99")} ${millis(one.service.p99_ms)}`,
        t("flow.queue", { n: number(one.waiting), batch: one.batches ? number(one.views / one.batches, 1) : "–" }),
      ],
    })),
    { title: t("flow.to_sinks", { n: sinks.length }), own: true, share: null, out: true, lines: [perSecond(out), t("flow.flagged_of", { n: many(flagged), all: many(cascade.results) }), t("flow.queued", { n: number(waiting) })] },
  ];
}

function station([x, y], { title, lines, busy, hangs }) {
  return svg(
    "g",
    { class: hangs ? "hangs" : null, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` },
    svg("rect", { width: WIDE, height: HIGH, rx: 6 }),
    svg("text", { class: "name", x: 12, y: 24, translate: "no" }, title.length > 21 ? `${title.slice(0, 20)}…` : title),
    lines.map((text, index) => svg("text", { class: "value", x: 12, y: 26 + (index + 1) * TEXT, translate: "no" }, text)),
    busy !== undefined && [
      svg("rect", { class: "rail", x: 1, y: HIGH - 5, width: WIDE - 2, height: 4, rx: 2 }),
      svg("rect", { class: "busy", x: 1, y: HIGH - 5, width: Math.max((WIDE - 2) * Math.min(busy, 1), 0), height: 4, rx: 2 }),
    ],
  );
}

/** From the edge of one station to the next. */
function way([x1, y1], [x2, y2], part, down) {
  const [ax, ay, bx, by] = down ? [x1 + WIDE / 2, y1 + HIGH, x2 + WIDE / 2, y2] : [x1 + WIDE, y1 + HIGH / 2, x2, y2 + HIGH / 2];
  const broad = part === null || part === undefined ? 2 : 1.500 + 16 * Math.min(part, 1);
  const [mx, my] = [(ax + bx) / 2, (ay + by) / 2];
  return [
    svg("path", { class: part === null ? "out" : null, d: `M${ax},${ay}L${bx},${by}`, "stroke-width": broad }),
    part !== null && part !== undefined && svg("text", { class: "share", x: mx, y: my + 4, "text-anchor": "middle", translate: "no" }, percent(part)),
  ];
}
