/* Questions before the page. The browser's own dialog: it keeps the focus inside, and Escape leaves it. */

import { fill, h } from "/page/dom.js";
import { tool, trouble } from "/page/parts.js";
import { t } from "/page/words.js";

/** Shows `content`; returns the dialog, whose `close()` ends it. */
export function open(title, content) {
  const name = h("h2", { id: "asked" }, title);
  const dialog = h("dialog", { "aria-labelledby": "asked" }, h("header", {}, name, tool("close", t("dialog.close"), () => dialog.close())), content);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before what cannot be undone; `act` may fail, and says so where it was asked. */
export function confirm(title, text, doing, act) {
  const wrong = h("div");
  const yes = h("button", { type: "button", class: "danger" }, doing);
  const dialog = open(title, [
    h("p", {}, text),
    wrong,
    h("div", { class: "row end" }, h("button", { type: "button", autofocus: true, on: { click: () => dialog.close() } }, t("dialog.keep")), yes),
  ]);
  yes.addEventListener("click", async () => {
    yes.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      fill(wrong, trouble(error));
      yes.disabled = false;
    }
  });
}
