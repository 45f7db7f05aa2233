/* Every word of the page, in the reader's language. `{name}` in a text is filled in; "one thing|{n} things" goes by `n`. */

const LANGUAGES = { en: "English", zh: "中文" };
const KEY = "thresher.language";
let texts = {};
export let language = "en";

function wanted() {
  const kept = remembered(KEY);
  if (kept in LANGUAGES) return kept;
  const first = (navigator.languages ?? []).map((one) => one.slice(0, 2)).find((one) => one in LANGUAGES);
  return first ?? "en";
}

export async function readWords(name = wanted()) {
  texts = await (await fetch(`/page/i18n/${name}.json`)).json();
  language = name;
  document.documentElement.lang = name === "zh" ? "zh-CN" : name;
}

export async function switchLanguage() {
  const names = Object.keys(LANGUAGES);
  const next = names[(names.indexOf(language) + 1) % names.length];
  remember(KEY, next);
  await readWords(next);
}

export function otherLanguage() {
  return language === "en" ? { code: "zh-CN", name: LANGUAGES.zh } : { code: "en", name: LANGUAGES.en };
}

export function t(key, values = {}) {
  const forms = (texts[key] ?? key).split("|");
  const one = forms.length > 1 && new Intl.PluralRules(language).select(values.n) === "one";
  return (one ? forms[0] : forms.at(-1)).replace(/\{(\w+)\}/g, (whole, name) => shown(values[name] ?? whole));
}

/** The word for what the program says in one of its own words (a state, a reason); that word itself where it is new. */
export function word(family, name) {
  return texts[`${family}.${name}`] ?? name;
}

function shown(value) {
  return typeof value === "number" ? value.toLocaleString(language) : value;
}

/* A browser may forbid a page to remember. */
export function remembered(key) {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* then not */
  }
}
