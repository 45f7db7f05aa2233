/* Parts that several views share: a state in colour, sign and word; a panel; what says that something is not there. */

import { fill, h, raw, say } from "/page/dom.js";
import { icon } from "/page/icons.js";
import { t, word } from "/page/words.js";

const SIGNS = { live: "live", connecting: "connecting", ended: "ended", failed: "failed", paused: "paused" };
const LOOKS = { live: "good", connecting: "info", ended: "faint", failed: "bad", paused: "faint" };

/** A stream's state; `update({state, paused})` on the element. */
export function statePill(stream) {
  const pill = h("span", { class: "pill" });
  let shown = "";
  pill.update = ({ state, paused }) => {
    const now = paused ? "paused" : state;
    if (now === shown) return;
    shown = now;
    pill.className = `pill ${LOOKS[now] ?? "warn"}`;
    fill(pill, icon(SIGNS[now] ?? "warn"), word("state", now));
  };
  pill.update(stream);
  return pill;
}

export function chip(text, look = "", attributes = {}) {
  return h("span", { class: `chip ${look}`, ...attributes }, text);
}

/** A label that a model gave. Its colour is its own, the same wherever it stands. */
export function label(name, count = 1) {
  return h("span", { class: "chip label", translate: "no", css: { "--hue": hue(name) } }, count > 1 ? `${name} ×${count}` : name);
}

export function hue(name) {
  let sum = 7;
  for (const sign of name) sum = (sum * 31 + sign.codePointAt(0)) % 360;
  return sum;
}

export function button(sign, text, click, attributes = {}) {
  return h("button", { type: "button", on: { click }, ...attributes }, icon(sign), h("span", {}, text));
}

/** A sign alone, for what stands in every tile; its name is for who does not see it, and on hovering. */
export function tool(sign, name, click, attributes = {}) {
  return h("button", { type: "button", class: "quiet tool", "aria-label": name, title: name, on: { click }, ...attributes }, icon(sign));
}

/** A figure with its name. `update(text)` on the element. */
export function figure(name, text = "", attributes = {}) {
  const value = h("dd", { translate: "no" }, text);
  const element = h("div", { class: "figure", ...attributes }, h("dt", {}, name), value);
  element.update = (now) => say(value, now);
  return element;
}

export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** Why there is nothing here, and what to do about it. `how` is configuration to copy. */
export function absent(title, text, how = "") {
  return h("section", { class: "absent" }, h("h2", {}, title), h("p", {}, text), how && h("pre", { tabindex: 0, translate: "no" }, h("code", {}, how)));
}

/** What went wrong, in the server's own words. */
export function trouble(error) {
  return h(
    "div",
    { class: "trouble", role: "alert" },
    h("p", {}, icon("warn"), error.status === 0 ? t("trouble.unreachable") : raw(error.message, { lang: "en" })),
    error.errors?.length > 0 && h("ul", {}, error.errors.map((one) => h("li", {}, raw(`${one.place}: ${one.message}`, { lang: "en" })))),
  );
}

/** Says it to who listens; what is said too often is heard by nobody. */
export function announce(text) {
  const said = document.getElementById("said");
  say(said, "");
  setTimeout(() => say(said, text), 60);
}

/** A table whose first column names the rows. Cells are texts or elements. */
export function table(caption, heads, rows, attributes = {}) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption, ...attributes },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell))))),
    ),
  );
}
