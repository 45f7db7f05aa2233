/* A form made from JSON Schema: what a source must be told first, what it may be told behind a fold. */

import { h } from "/page/dom.js";
import { t } from "/page/words.js";

/** `{element, read(), mark(errors)}` for the object that `schema` describes, `choices` for what only we know the values
    of. `read` leaves out what was not touched. */
export function formOf(schema, { skip = [], defs = schema.$defs ?? {}, id = "field", values = {}, choices = {} } = {}) {
  const required = new Set(schema.required ?? []);
  const names = Object.keys(schema.properties ?? {}).filter((name) => !skip.includes(name));
  const fields = names.map((name) => field(name, choices[name] ? { ...schema.properties[name], anyOf: undefined, enum: choices[name] } : schema.properties[name], defs, required.has(name), `${id}-${name}`, values[name]));
  const first = fields.filter((one) => one.first);
  const rest = fields.filter((one) => !one.first);
  const more = rest.length > 0 && h("details", {}, h("summary", {}, t("form.more", { n: rest.length })), rest.map((one) => one.element));
  return {
    element: h("div", { class: "fields" }, first.map((one) => one.element), more),
    read: () => Object.fromEntries(fields.map((one) => [one.name, one.read()]).filter(([, value]) => value !== undefined)),
    /** Puts each error beside its field; returns those that belong to none. */
    mark(errors) {
      const left = [];
      for (const one of fields) one.mark("");
      for (const error of errors) {
        const parts = error.place.split(".");
        const found = fields.find((one) => parts.includes(one.name));
        if (found) found.mark(error.message);
        else left.push(error);
        if (found && !found.first && more) more.open = true;
      }
      return left;
    },
  };
}

function resolve(schema, defs) {
  if (schema.$ref) return { ...resolve(defs[schema.$ref.split("/").at(-1)] ?? {}, defs), ...schema, $ref: undefined };
  const forms = (schema.anyOf ?? schema.oneOf ?? schema.allOf ?? []).filter((one) => one.type !== "null");
  if (!forms.length) return schema;
  const simple = forms.map((one) => resolve(one, defs));
  const { anyOf, oneOf, allOf, ...rest } = schema;
  return simple.length === 1 ? { ...simple[0], ...rest } : { ...(simple.find((one) => ["string"].includes(one.type)) ?? {}), ...rest, mixed: true };
}

function field(name, given, defs, required, id, value) {
  const schema = resolve(given, defs);
  const told = value !== undefined && value !== null;
  const kind = told && typeof value === "object" ? "json" : kindOf(schema);
  const input = inputOf(kind, schema, id, required);
  const shown = told ? (kind === "json" ? JSON.stringify(value, null, 1) : value) : undefined;
  if (kind === "boolean") input.checked = shown ?? schema.default ?? false;
  else if (shown !== undefined) input.value = shown;
  const before = kind === "boolean" ? input.checked : input.value;
  const note = h("small", { id: `${id}-note`, class: "faint", lang: "en", translate: "no" }, schema.description ?? "");
  const wrong = h("small", { id: `${id}-wrong`, class: "wrong", lang: "en", translate: "no" });
  input.setAttribute("aria-describedby", `${id}-note ${id}-wrong`);
  const caption = h("label", { for: id, translate: "no" }, name.replaceAll("_", " "), required && h("abbr", { title: t("form.required") }, "*"));
  return {
    name,
    first: required,
    element: h("div", { class: `field ${kind}` }, caption, input, note, wrong),
    read() {
      if (kind === "boolean") return input.checked === before ? undefined : input.checked;
      const text = input.value.trim();
      if (text === before) return required && text && !told ? parsed(text, kind, schema) : undefined;
      if (text === "") return told ? null : undefined;
      return parsed(text, kind, schema);
    },
    mark(text) {
      wrong.textContent = text;
      input.setAttribute("aria-invalid", text ? "true" : "false");
    },
  };
}

function kindOf(schema) {
  if (schema.enum || schema.const !== undefined) return "choice";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "integer" || schema.type === "number") return schema.mixed ? "text" : "number";
  if (schema.type === "object" || schema.type === "array" || schema.properties) return "json";
  return "text";
}

function inputOf(kind, schema, id, required) {
  if (kind === "choice") {
    const choices = schema.enum ?? [schema.const];
    return h("select", { id, required }, !required && h("option", { value: "" }, t("form.usual")), choices.map((one) => h("option", { value: one, translate: "no", selected: required && one === schema.default }, String(one))));
  }
  if (kind === "boolean") return h("input", { id, type: "checkbox" });
  if (kind === "json") return h("textarea", { id, rows: 2, spellcheck: "false", placeholder: "{ }", required });
  const hint = schema.default !== undefined && schema.default !== null && typeof schema.default !== "object" ? String(schema.default) : "";
  const limits = kind === "number" ? { type: "number", step: "any", min: schema.minimum, max: schema.maximum } : { type: "text", spellcheck: "false", autocomplete: "off" };
  return h("input", { id, required, placeholder: hint, ...limits });
}

/* What a server would take for a number or a list is sent as one; it has the last word. */
function parsed(text, kind, schema) {
  if (kind === "number") return Number(text);
  if (kind === "json") {
    try {
      return JSON.parse(text);
    } catch {
      return schema.type === "array" ? text.split(/[\s,]+/) : text;
    }
  }
  return schema.mixed && text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}
