/* The frame around the views: where one is (the address's part after #), who one is, language and theme. */

import { get, onSignedOut, remove } from "/page/api.js";
import { publishing } from "/page/camera.js";
import { fill, h, say } from "/page/dom.js";
import { duration, number, bytes, perSecond } from "/page/format.js";
import { icon } from "/page/icons.js";
import { live } from "/page/live.js";
import { announce } from "/page/parts.js";
import { showTheme, switchTheme, theme } from "/page/theme.js";
import { otherLanguage, readWords, switchLanguage, t } from "/page/words.js";

const VIEWS = ["wall", "events", "flow", "promise", "review"];
const main = document.getElementById("main");
const session = { role: "operator", needed: false };
let close = null; // of the view that is shown
let pulse = null;
let showing = 0;

function route() {
  const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return { view: VIEWS.includes(view) ? view : "wall", name: rest.join("/") };
}

/** `moved`: somebody went there, so that a screen reader's place goes along. */
async function show(moved = false) {
  const { view, name } = route();
  const turn = ++showing;
  const module = await import(`/page/views/${session.role ? view : "signin"}.js`);
  if (turn !== showing) return;
  close?.();
  close = null;
  main.className = session.role ? view : "signin";
  frame(view);
  const context = {
    name,
    session,
    mayChange: session.role === "operator",
    signedIn: enter,
  };
  close = module.show(fill(main), context);
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? ""} · Thresher`;
  if (moved && heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function frame(view) {
  say(document.getElementById("skip"), t("frame.skip"));
  const other = otherLanguage();
  pulse = h("p", { class: "pulse" });
  fill(
    document.getElementById("top"),
    h("a", { class: "brand", href: "#/wall", translate: "no" }, h("img", { src: "/page/icon.svg", alt: "", width: 22, height: 22 }), "Thresher"),
    session.role &&
      h(
        "nav",
        { "aria-label": t("frame.views") },
        VIEWS.map((one) =>
          h("a", { href: `#/${one}`, "aria-current": one === view ? "page" : null }, icon(one), h("span", {}, t(`nav.${one}`))),
        ),
      ),
    h(
      "div",
      { class: "tools" },
      pulse,
      h("button", { class: "quiet", lang: other.code, translate: "no", on: { click: speakOther } }, other.name),
      h("button", { class: "quiet", "aria-label": t("frame.theme", { now: t(`theme.${theme()}`) }), title: t("frame.theme", { now: t(`theme.${theme()}`) }), on: { click: turnTheme } }, icon("theme")),
      session.needed && session.role && h("button", { class: "quiet", "aria-label": t("frame.leave"), title: t("frame.leave"), on: { click: leave } }, icon("leave")),
    ),
  );
  beat();
  notices();
}

async function speakOther() {
  await switchLanguage();
  await show();
  document.querySelector("#top .tools button").focus();
}

function turnTheme() {
  switchTheme();
  const { view } = route();
  frame(view);
  document.querySelectorAll("#top .tools button")[1].focus();
  dispatchEvent(new Event("themechange"));
}

async function leave() {
  await remove("/api/session");
  signedOut();
}

function beat() {
  const now = live.snapshot;
  if (!pulse || !now) return;
  const rate = now.streams.reduce((total, one) => total + one.outcomes_per_s, 0);
  say(pulse, [t("frame.streams", { n: now.streams.length }), perSecond(rate), t("frame.cpu", { value: number(now.cpu_percent) }), bytes(now.rss_bytes), duration(now.elapsed_s)].join("  ·  "));
}

/* What must be seen wherever one is. Said aloud once, when it changes. */
function notices() {
  const shown = document.getElementById("notices");
  fill(
    shown,
    live.connected === false && session.role && h("p", { class: "notice bad" }, icon("warn"), t("frame.lost")),
    live.connected && live.snapshot?.healthy === false && h("p", { class: "notice bad" }, icon("warn"), t("frame.unwell")),
    live.connected && live.snapshot?.ready === false && h("p", { class: "notice" }, icon("connecting"), t("frame.warming")),
    session.role === "viewer" && h("p", { class: "notice faint" }, t("frame.viewer")),
    publishing.name && h("p", { class: "notice" }, icon("camera"), t("camera.on", { name: publishing.name }), h("button", { on: { click: () => publishing.stop() } }, t("camera.stop"))),
  );
}

function signedOut() {
  if (session.role === null) return;
  session.role = null;
  session.needed = true;
  live.stop();
  show(true);
}

async function enter() {
  Object.assign(session, await get("/api/session").catch(() => ({ role: "operator", needed: false })));
  if (session.role) live.start();
  await show(true);
}

async function begin() {
  showTheme();
  const [said] = await Promise.all([
    get("/api/session").catch(() => ({ role: "operator", needed: false })),
    readWords(),
  ]);
  Object.assign(session, said);
  onSignedOut(signedOut);
  live.on("snapshot", beat);
  let standing = "";
  live.on("snapshot", () => {
    const now = `${live.snapshot.healthy} ${live.snapshot.ready}`;
    if (now !== standing) notices();
    standing = now;
  });
  live.on("connected", (is) => {
    notices();
    if (is === false) announce(t("frame.lost"));
  });
  publishing.changed = notices;
  addEventListener("hashchange", () => show(true));
  if (session.role) live.start();
  await show();
}

begin();
