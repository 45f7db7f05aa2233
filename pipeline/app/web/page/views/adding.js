/* A stream is added, or changed: the form is made from what the program says of its own settings. */

import { get, path, patch, post } from "/page/api.js";
import { open } from "/page/dialog.js";
import { fill, h } from "/page/dom.js";
import { formOf } from "/page/form.js";
import { live } from "/page/live.js";
import { announce, trouble } from "/page/parts.js";
import { t } from "/page/words.js";

const USUAL = ["rtsp", "webcam", "webrtc", "file", "folder", "hls", "microphone"]; // first in the list

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
  const name = h("input", { id: "adding-name", required: true, autocomplete: "off", spellcheck: "false", maxlength: 100 });
  const kind = h("select", { id: "adding-kind" }, [...kinds.keys()].map((one) => h("option", { value: one, translate: "no" }, one)));
  const place = h("div");
  const said = h("p", { class: "faint", lang: "en", translate: "no" });
  let form = null;
  const choose = () => {
    const schema = kinds.get(kind.value);
    say(said, schema);
    form = formOf(schema, { skip: ["kind", "type", "name"], id: "adding" });
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

function say(element, schema) {
  element.textContent = (schema.description ?? "").split("\n\n")[0].replace(/\s+/g, " ");
}

export async function askForChange(stream) {
  const body = h("div");
  open(t("adding.change", { name: stream.name }), body);
  try {
    const schema = (await readKinds()).get(stream.kind);
    if (!schema) throw new Error(t("adding.unknown", { kind: stream.kind }));
    const form = formOf(schema, { skip: ["kind", "type", "name"], id: "changing", values: stream.settings ?? {} });
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

/** Kind → JSON Schema of its settings. */
async function readKinds() {
  const said = await get("/api/kinds");
  const defs = said.$defs ?? {};
  const forms = said.oneOf ?? said.anyOf ?? Object.entries(said.kinds ?? said.properties ?? {}).map(([kind, schema]) => ({ kind, ...schema }));
  const kinds = new Map();
  for (const form of forms) {
    const schema = form.$ref ? defs[form.$ref.split("/").at(-1)] : form;
    const kind = form.kind ?? schema.properties?.kind?.const ?? schema.properties?.type?.const;
    if (kind) kinds.set(kind, { ...schema, $defs: { ...defs, ...schema.$defs } });
  }
  const rank = (kind) => (USUAL.indexOf(kind) + USUAL.length + 1) % (USUAL.length + 1);
  return new Map([...kinds].sort(([one], [two]) => rank(one) - rank(two) || one.localeCompare(two)));
}
