/* Who are you? */

import { post } from "/page/api.js";
import { fill, h } from "/page/dom.js";
import { trouble } from "/page/parts.js";
import { t } from "/page/words.js";

export function show(main, { signedIn }) {
  const wrong = h("div");
  const token = h("input", { id: "token", type: "password", required: true, autocomplete: "current-password", "aria-describedby": "token-what" });
  const form = h(
    "form",
    { class: "panel form" },
    h("h1", {}, t("signin.title")),
    h("p", { id: "token-what", class: "faint" }, t("signin.what")),
    h("label", { for: "token" }, t("signin.token")),
    token,
    wrong,
    h("button", { class: "main" }, t("signin.do")),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post("/api/session", { token: token.value });
      await signedIn();
    } catch (error) {
      fill(wrong, trouble(error.status === 401 ? new Error(t("signin.wrong")) : error));
      token.select();
    }
  });
  fill(main, form);
  token.focus();
  return () => {};
}
