/* What a stream shows: its picture, or of sound and text what was last found in it. */

import { get, query } from "/page/api.js";
import { fill, h } from "/page/dom.js";
import { moment } from "/page/format.js";
import { label } from "/page/parts.js";
import { picture } from "/page/picture.js";
import { t } from "/page/words.js";

const EVERY_MS = 2000;

export const seen = (stream) => stream.medium === "picture";

export function stage(stream, { width, latest = 4 } = {}) {
  return seen(stream) ? picture(stream.stream, { width }) : findings(stream.stream, latest);
}

/** The latest labels of `stream`, from the store. */
function findings(stream, latest) {
  const list = h("ol", { class: "latest" });
  const element = h("div", { class: "picture words" }, list);
  let timer = 0;
  let over = false;
  const look = async () => {
    if (!document.hidden) {
      try {
        const { results } = await get(`/api/results${query({ stream, outcome: "result", limit: latest })}`);
        fill(list, results.length ? results.map(line) : h("li", { class: "faint" }, t("wall.silent")));
      } catch {
        fill(list, h("li", { class: "faint" }, t("wall.no_words")));
      }
    }
    if (!over) timer = setTimeout(look, EVERY_MS);
  };
  look();
  element.gone = () => {
    over = true;
    clearTimeout(timer);
  };
  return element;
}

function line(result) {
  const found = result.detections ?? [];
  return h(
    "li",
    {},
    h("time", { datetime: result.time, translate: "no" }, moment(result.time)),
    found.length ? found.slice(0, 4).map((one) => label(one.label)) : h("span", { class: "faint" }, t("wall.nothing")),
  );
}
