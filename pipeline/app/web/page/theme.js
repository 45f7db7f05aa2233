/* Dark or light: the system's, until somebody says otherwise. */

import { remember, remembered } from "/page/words.js";

const KEY = "thresher.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

export function theme() {
  return remembered(KEY) || (dark.matches ? "dark" : "light");
}

export function showTheme() {
  document.documentElement.dataset.theme = theme();
}

export function switchTheme() {
  remember(KEY, theme() === "dark" ? "light" : "dark");
  showTheme();
}

dark.addEventListener("change", () => {
  showTheme();
  dispatchEvent(new Event("themechange"));
});
