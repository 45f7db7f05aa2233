/* A stream is added, or changed: the form is made from what the program says of its own settings. */

import { get, path, patch, post } from "/page/api.js";
import { open } from "/page/dialog.js";
import { fill, h } from "/page/dom.js";
import { formOf } from "/page/form.js";
import { live } from "/page/live.js";
import { announce, trouble } from "/page/parts.js";
import { t } from "/page/words.js";

const USUAL = ["rtsp", "webcam", "webrtc", "microphone"]; // first in the list
export const NAME = "[A-Za-z0-9][A-Za-z0-9_.\\-]*";
const OURS = ["kind", "type", "name"]; // asked for by itself

export async function askForStream() {
  const body = h("div");
  open(t("adding.title"), body);
  let kinds;
  try {
    kinds = await readKinds();
  } catch (error) {
    fill(body, trouble(error));
    return;
  }
  const name = h("input", { id: "adding-name", required: true, autocomplete: "off", spellcheck: "false", maxlength: 64, pattern: NAME, title: t("adding.name_how") });
  const kind = h("select", { id: "adding-kind" }, [...kinds.values()].map((one) => h("option", { value: one.kind, translate: "no", disabled: !one.allowed }, one.kind)));
  const place = h("div");
  const said = h("p", { class: "faint", lang: "en", translate: "no" });
  let form = null;
  const choose = () => {
    const one = kinds.get(kind.value);
    said.textContent = one.description.split("\n\n")[0].replace(/\s+/g, " ");
    form = formOf(one.schema, { skip: OURS, id: "adding", choices: one.choices });
    fill(place, form.element);
  };
  kind.addEventListener("change", choose);
  choose();
  sent(body, t("adding.do"), [h("label", { for: "adding-name" }, t("adding.name")), name, h("label", { for: "adding-kind" }, t("adding.kind")), kind, said, place], () => form, async () => {
    await post("/api/streams", { name: name.value.trim(), type: kind.value, ...form.read() });
    announce(t("adding.added", { name: name.value.trim() }));
    await live.refreshStreams();
  });
  name.focus();
}

export async function askForChange(stream) {
  const body = h("div");
  open(t("adding.change", { name: stream.name }), body);
  try {
    const one = (await readKinds()).get(stream.kind);
    if (!one) throw new Error(t("adding.unknown", { kind: stream.kind }));
    const form = formOf(one.schema, { skip: OURS, id: "changing", values: stream.settings, choices: one.choices });
    sent(body, t("adding.save"), [form.element], () => form, async () => {
      await patch(`/api/streams/${path(stream.name)}`, form.read());
      announce(t("adding.changed", { name: stream.name }));
      await live.refreshStreams();
    });
  } catch (error) {
    fill(body, trouble(error));
  }
}

/** A form that is sent by `send`; what is wrong stands beside its field, and otherwise below. */
function sent(body, doing, content, form, send) {
  const wrong = h("div");
  const go = h("button", { class: "main" }, doing);
  const element = h("form", { class: "form" }, content, wrong, h("div", { class: "row end" }, go));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    fill(wrong);
    try {
      await send();
      body.closest("dialog").close();
    } catch (error) {
      const left = form().mark(error.errors ?? []);
      if (!error.errors?.length || left.length) fill(wrong, trouble(error));
      else body.querySelector("[aria-invalid=true]")?.focus();
    } finally {
      go.disabled = false;
    }
  });
  fill(body, element);
}

/** Kinds of source with the schemas of their settings; those come first that can be added here. */
async function readKinds() {
  const { kinds, cascades, $defs } = await get("/api/kinds");
  const rank = (one) => (one.allowed ? 0 : 100) + ((USUAL.indexOf(one.kind) + USUAL.length + 1) % (USUAL.length + 1));
  const sorted = kinds.toSorted((one, two) => rank(one) - rank(two) || one.kind.localeCompare(two.kind));
  return new Map(sorted.map((one) => [one.kind, { ...one, schema: { ...one.schema, $defs: { ...$defs, ...one.schema.$defs } }, choices: { cascade: cascades.map(({ name }) => name) } }]));
}
