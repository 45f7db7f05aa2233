/* What the cascade was unsure of, one after another, a key for each answer. What is decided becomes a data set. */

import { get, path, put, remove } from "/page/api.js";
import { open } from "/page/dialog.js";
import { fill, h, raw, say } from "/page/dom.js";
import { moment, number, percent } from "/page/format.js";
import { absent, announce, button, chip, facts, label, trouble } from "/page/parts.js";
import { sheet } from "/page/views/sheet.js";
import { t, word } from "/page/words.js";

const SINK = "sinks:\n  doubts: {kind: doubts, path: results/doubts, every_s: 1}";
const WAIT_MS = 15000; // until what is new is asked for, where all is done

export function show(main, { mayChange }) {
  let items = [];
  let place = 0;
  let page = null; // the sheet that is shown
  let over = false;
  let state = "open";
  const body = h("div");
  const counts = h("p", { class: "faint" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": t("review.progress") });
  const wrong = h("div");
  const data = h("section", { class: "panel" });
  const which = h(
    "div",
    { class: "choices", role: "group", "aria-label": t("review.which") },
    ["open", "done"].map((one) => h("button", { type: "button", "aria-pressed": String(one === state), on: { click: (event) => choose(one, event.currentTarget) } }, t(`review.${one}`))),
  );
  fill(main, h("div", { class: "head" }, h("h1", {}, t("nav.review")), counts, h("div", { class: "row end" }, which, button("review", t("review.keys"), help))), bar, wrong, body, data);

  function choose(next, pressed) {
    state = next;
    for (const one of which.children) one.setAttribute("aria-pressed", String(one === pressed));
    place = 0;
    read();
  }

  async function read() {
    try {
      const said = await get(`/api/review?state=${state}&limit=200`);
      if (over) return;
      items = said.items;
      count(said.counts);
      datasets(said);
      if (!said.datasets.length) fill(body, absent(t("review.absent"), t("review.absent_how"), SINK));
      else draw();
    } catch (error) {
      if (over) return;
      items = [];
      fill(body, error.absent ? absent(t("review.absent"), t("review.absent_how"), SINK) : trouble(error));
    }
  }

  function count({ open: left, done }) {
    say(counts, t("review.counts", { n: left, done }));
    bar.value = left + done ? done / (left + done) : 0;
  }

  function datasets({ datasets: sets, counts: { decisions } }) {
    data.hidden = !sets.length;
    const made = ["confirm", "correct", "unsure"].map((one) => `${t(`review.n_${one}`)} ${number(decisions[one] ?? 0)}`);
    fill(
      data,
      h("h2", {}, t("review.dataset")),
      h("p", {}, made.join(" · ")),
      h("p", { class: "faint" }, t("review.train")),
      sets.map((one) => [facts([[t("review.lies"), raw(one.path)], [t("review.rows"), raw(number(one.rows))]]), h("pre", { tabindex: 0, translate: "no" }, one.train)]),
    );
  }

  function draw() {
    const item = items[place];
    if (!item) {
      page = null;
      fill(body, absent(t(state === "open" ? "review.all_done" : "review.none_done"), t("review.all_done_how")));
      return;
    }
    page = sheet(item, mayChange);
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
          h("p", { class: "row" }, chip(word("doubt", item.reason), "warn"), item.missed && chip(t("review.missed"), "bad"), item.decision && chip(t(`review.n_${item.decision.decision}`), "good")),
          facts([
            [t("one.stream"), raw(item.stream)],
            [t("record.when"), raw(moment(item.time))],
            [t("review.said"), item.detections.length ? h("span", {}, item.detections.map((one) => [label(one.label), " ", raw(percent(one.score, 0)), " "])) : t("wall.nothing")],
          ]),
          h(
            "div",
            { class: "answers" },
            button("yes", t("review.confirm"), () => answer("confirm"), { class: "main", "aria-keyshortcuts": "1", ...may }),
            button("settings", t("review.correct"), correct, { "aria-keyshortcuts": "2", ...may }),
            button("warn", t("review.unsure"), () => answer("unsure"), { "aria-keyshortcuts": "3", ...may }),
          ),
          item.decision && mayChange && button("back", t("review.undo"), undo),
          item.picture && h("p", { class: "faint" }, t(item.partial ? "review.partial" : "review.whole_truth")),
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
      page.draw();
      const [yes, save] = body.querySelectorAll(".answers button");
      yes.className = "";
      save.className = "main";
      say(save.querySelector("span"), t("review.save"));
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
    announce(t(`review.did_${decision}`));
    next();
  }

  async function undo() {
    try {
      fill(wrong);
      await remove(`/api/review/${path(items[place].id)}`);
    } catch (error) {
      fill(wrong, trouble(error));
      return;
    }
    announce(t("review.undone"));
    place = 0;
    read();
  }

  /* What was answered leaves the list of what is to do, and stays in the other one. */
  async function next(by = state === "open" ? 0 : 1) {
    if (over) return;
    if (state === "open") items.splice(place, 1);
    place = Math.min(place + by, Math.max(items.length - 1, 0));
    if (!items.length || by) return read();
    draw();
    const said = await get("/api/review?state=open&limit=1").catch(() => null);
    if (!said || over) return;
    count(said.counts);
    datasets(said);
  }

  function move(by) {
    if (!items[place + by]) return;
    place += by;
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
