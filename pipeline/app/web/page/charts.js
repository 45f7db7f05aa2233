/* Small charts. Each is one picture to a screen reader, with its newest figures as the name. */

import { fill, h, say, svg } from "/page/dom.js";

const [WIDE, HIGH] = [240, 36];

/** A line over the last minutes; `update([[time, value], …], text)`, where `text` is the newest as words. */
export function sparkline(name, { most = 0 } = {}) {
  const line = svg("path", { class: "line" });
  const area = svg("path", { class: "area" });
  const newest = h("span", { translate: "no" });
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  const element = h("figure", { class: "spark" }, h("figcaption", {}, h("span", {}, name), newest), picture);
  return {
    element,
    update(points, text = "") {
      say(newest, text);
      if (points.length < 2) return;
      const [from, to] = [points[0][0], points.at(-1)[0]];
      const top = Math.max(most, ...points.map(([, value]) => value)) || 1;
      const at = points.map(([time, value]) => `${(((time - from) / (to - from || 1)) * WIDE).toFixed(1)},${(HIGH - 2 - (value / top) * (HIGH - 5)).toFixed(1)}`);
      line.setAttribute("d", `M${at.join("L")}`);
      area.setAttribute("d", `M0,${HIGH}L${at.join("L")}L${WIDE},${HIGH}Z`);
    },
  };
}

/** Ticks of a scale from 0 to `top`: round numbers, some four of them. */
export function ticks(top, wanted = 4) {
  if (!(top > 0)) return [0];
  const rough = top / wanted;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * size).find((one) => one >= rough);
  const marks = [];
  for (let mark = 0; mark <= top * 1.0001; mark += step) marks.push(mark);
  return marks;
}

/** Lines over a common x. `lines`: [{points: [[x, y]], look}], `band`: [[x, low, high]], `levels`: [{y, text, look}],
    `dots`: [[x, y]], `mark`: [x, y]. Texts come from the caller, who knows the language. */
export function chart({ name, lines = [], band = [], levels = [], dots = [], mark = null, top, textX, textY, across = [], height = 220 }) {
  const [left, right, up, down, wide] = [56, 12, 12, 26, 720];
  const xs = [...lines.flatMap((one) => one.points.map(([x]) => x)), ...band.map(([x]) => x)];
  const [from, to] = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
  const x = (value) => left + ((value - from) / (to - from || 1)) * (wide - left - right);
  const y = (value) => height - down - (Math.min(value, top) / (top || 1)) * (height - up - down);
  const pointed = (points) => points.map(([one, two]) => `${x(one).toFixed(1)},${y(two).toFixed(1)}`).join("L");
  const element = svg("svg", { class: "chart", viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": name });
  fill(
    element,
    ticks(top).map((mark) => [
      svg("line", { class: "grid", x1: left, x2: wide - right, y1: y(mark), y2: y(mark) }),
      svg("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end", translate: "no" }, textY(mark)),
    ]),
    (across.length ? across : xs.length ? [from, (from + to) / 2, to] : []).map((mark, index, all) =>
      svg("text", { x: x(mark), y: height - 8, "text-anchor": index === 0 ? "start" : index === all.length - 1 ? "end" : "middle", translate: "no" }, textX(mark)),
    ),
    band.length > 1 &&
      svg("path", { class: "band", d: `M${pointed(band.map(([one, , high]) => [one, high]))}L${pointed(band.map(([one, low]) => [one, low]).reverse())}Z` }),
    levels.map((level) => [
      svg("line", { class: `level ${level.look ?? ""}`, x1: left, x2: wide - right, y1: y(level.y), y2: y(level.y) }),
      svg("text", { class: "levelled", x: wide - right - 4, y: y(level.y) - 5, "text-anchor": "end" }, level.text),
    ]),
    lines.map((one) => one.points.length > 0 && svg("path", { class: `line ${one.look ?? ""}`, d: `M${pointed(one.points)}` })),
    dots.map(([one, two]) => svg("circle", { class: "dot", cx: x(one), cy: y(two), r: 3.5 })),
    mark && svg("circle", { class: "mark", cx: x(mark[0]), cy: y(mark[1]), r: 5 }),
  );
  return element;
}
