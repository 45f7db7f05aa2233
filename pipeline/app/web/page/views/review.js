/* What the cascade was unsure of, one after another, a key for each answer. What is decided becomes a data set. */

import { get, path, put } from "/page/api.js";
import { open } from "/page/dialog.js";
import { fill, h, raw, say } from "/page/dom.js";
import { moment, number, percent, sum } from "/page/format.js";
import { absent, announce, button, chip, facts, label, trouble } from "/page/parts.js";
import { sheet } from "/page/views/sheet.js";
import { t, word } from "/page/words.js";

const SINK = "sinks:\n  doubts: {kind: doubts, path: results/doubts, every_s: 1}";
const WAIT_MS = 15000; // until what is new is asked for, where all is done

export function show(main, { mayChange }) {
  let items = [];
  let place = 0;
  let done = 0;
  let total = 0;
  let page = null; // the sheet that is shown
  let labels = [];
  let over = false;
  let state = "open";
  const body = h("div");
  const counted = h("p", { class: "faint" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": t("review.progress") });
  const wrong = h("div");
  const data = h("section", { class: "panel" });
  const which = h(
    "div",
    { class: "choices", role: "group", "aria-label": t("review.which") },
    ["open", "done"].map((one) => h("button", { type: "button", "aria-pressed": String(one === state), on: { click: (event) => choose(one, event.currentTarget) } }, t(`review.${one}`))),
  );
  fill(main, h("div", { class: "head" }, h("h1", {}, t("nav.review")), counted, h("div", { class: "row end" }, which, button("review", t("review.keys"), help))), bar, wrong, body, data);

  function choose(next, pressed) {
    state = next;
    for (const one of which.children) one.setAttribute("aria-pressed", String(one === pressed));
    place = 0;
    read();
  }

  async function read() {
    try {
      const said = await get(`/api/review?state=${state}`);
      if (over) return;
      items = said.items;
      const counts = said.counts ?? {};
      done = counts.done ?? sum(Object.fromEntries(Object.entries(counts).filter(([name]) => ["confirm", "correct", "unsure"].includes(name))));
      total = done + (counts.open ?? items.length);
      labels = said.labels ?? [...new Set(items.flatMap((one) => [...(one.labels ?? []), ...one.detections.map((found) => found.label)]))];
      dataset(said);
      draw();
    } catch (error) {
      if (over) return;
      items = [];
      fill(body, error.absent ? absent(t("review.absent"), t("review.absent_how"), SINK) : trouble(error));
    }
  }

  function dataset({ dataset: folder, counts = {}, command }) {
    const made = ["confirm", "correct", "unsure"].filter((one) => counts[one] !== undefined).map((one) => `${t(`review.n_${one}`)} ${number(counts[one])}`);
    fill(
      data,
      h("h2", {}, t("review.dataset")),
      made.length > 0 && h("p", {}, made.join(" · ")),
      facts([[t("review.lies"), folder && raw(folder)]]),
      h("p", { class: "faint" }, t("review.train")),
      h("pre", { tabindex: 0, translate: "no" }, command ?? `thresher train RECIPE.yaml --set data.path=${folder ?? "FOLDER"}`),
    );
  }

  function draw() {
    say(counted, t("review.counts", { n: Math.max(total - done, 0), done }));
    attributeOf(bar, total ? done / total : 0);
    const item = items[place];
    if (!item) {
      page = null;
      fill(body, absent(t(state === "open" ? "review.all_done" : "review.none_done"), t("review.all_done_how")));
      return;
    }
    const known = [...new Set([...(item.labels ?? []), ...labels])];
    page = sheet(item, known, mayChange);
    const may = mayChange ? {} : { disabled: true };
    fill(
      body,
      h(
        "div",
        { class: "desk" },
        page.element,
        h(
          "aside",
          { class: "side", "aria-label": t("review.answers") },
          h("p", { class: "row" }, chip(word("doubt", item.reason), "warn"), item.decision && chip(t(`review.n_${item.decision}`), "good")),
          facts([
            [t("one.stream"), raw(item.stream)],
            [t("record.when"), raw(moment(item.time))],
            [t("review.said"), item.detections.length ? h("span", {}, item.detections.map((one) => [label(one.label), " ", raw(percent(one.score)), " "])) : t("wall.nothing")],
          ]),
          h(
            "div",
            { class: "answers" },
            button("yes", t("review.confirm"), () => answer("confirm"), { class: "main", "aria-keyshortcuts": "1", ...may }),
            button("settings", t("review.correct"), correct, { "aria-keyshortcuts": "2", ...may }),
            button("warn", t("review.unsure"), () => answer("unsure"), { "aria-keyshortcuts": "3", ...may }),
          ),
          page.tools,
          h(
            "div",
            { class: "row" },
            h("button", { type: "button", disabled: place === 0, "aria-keyshortcuts": "ArrowLeft", on: { click: () => move(-1) } }, t("review.before")),
            raw(`${place + 1} / ${items.length}`, { class: "faint" }),
            h("button", { type: "button", disabled: place >= items.length - 1, "aria-keyshortcuts": "ArrowRight", on: { click: () => move(1) } }, t("review.after")),
          ),
        ),
      ),
    );
    body.querySelectorAll(".answers button").forEach((one, index) => one.append(h("kbd", { "aria-hidden": "true", translate: "no" }, String(index + 1))));
  }

  function correct() {
    if (!page || !mayChange) return;
    if (page.drawing) answer("correct");
    else {
      page.draw(() => answer("correct"));
      say(body.querySelectorAll(".answers button span")[1], t("review.save"));
      announce(t("review.drawing"));
    }
  }

  async function answer(decision) {
    const item = items[place];
    if (!item || !mayChange) return;
    const said = decision === "correct" ? { decision, detections: page.detections() } : { decision };
    try {
      fill(wrong);
      await put(`/api/review/${path(item.id)}`, said);
    } catch (error) {
      fill(wrong, trouble(error));
      return;
    }
    if (over) return;
    announce(t(`review.did_${decision}`));
    if (state === "open") items.splice(place, 1);
    else item.decision = decision;
    place = Math.min(place, Math.max(items.length - 1, 0));
    if (items.length) {
      if (state === "open") done += 1;
      draw();
      refreshCounts();
    } else read();
  }

  async function refreshCounts() {
    const said = await get(`/api/review?state=open&limit=1`).catch(() => null);
    if (!said || over) return;
    dataset(said);
    if (said.counts?.open !== undefined) total = done + said.counts.open;
  }

  function move(by) {
    const next = place + by;
    if (next < 0 || next >= items.length) return;
    place = next;
    draw();
  }

  function keys(event) {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog")) return;
    const act = {
      1: () => answer("confirm"),
      2: correct,
      3: () => answer("unsure"),
      ArrowRight: () => !page?.holds(event.target) && move(1),
      ArrowLeft: () => !page?.holds(event.target) && move(-1),
      b: () => page?.drawing && page.add(),
      Escape: () => page?.drawing && draw(),
      "?": help,
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  function help() {
    const rows = ["1", "2", "3", "arrows", "b", "tab", "move", "size", "delete", "escape", "?"];
    open(t("review.keys"), h("dl", { class: "keys" }, rows.map((one) => [h("dt", {}, t(`key.${one}`)), h("dd", {}, t(`key.${one}_does`))])));
  }

  addEventListener("keydown", keys);
  const clock = setInterval(() => !document.hidden && !items.length && read(), WAIT_MS);
  read();
  return () => {
    over = true;
    clearInterval(clock);
    removeEventListener("keydown", keys);
  };
}

function attributeOf(bar, value) {
  bar.value = value;
}
