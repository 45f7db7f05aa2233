/* This browser's camera as a stream: made, published by WHIP, taken away when it stops. */

import { path, post, remove } from "/page/api.js";
import { open } from "/page/dialog.js";
import { fill, h } from "/page/dom.js";
import { live } from "/page/live.js";
import { announce, trouble } from "/page/parts.js";
import { offer } from "/page/peer.js";
import { NAME } from "/page/views/adding.js";
import { t } from "/page/words.js";

const PICTURE = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 15, max: 15 } };

/** What is published now. `changed` is called when that begins and ends. */
export const publishing = { name: "", stop: async () => {}, changed: () => {} };

export function askForCamera() {
  const wrong = h("div");
  const name = h("input", { id: "camera-name", name: "name", required: true, autocomplete: "off", maxlength: 60, pattern: NAME, title: t("adding.name_how"), value: "browser" });
  const go = h("button", { class: "main" }, t("camera.start"));
  const form = h(
    "form",
    { class: "form" },
    h("p", { class: "faint" }, t("camera.what")),
    h("label", { for: "camera-name" }, t("camera.name")),
    name,
    wrong,
    h("div", { class: "row end" }, go),
  );
  const dialog = open(t("camera.use"), form);
  name.select();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    fill(wrong);
    try {
      await publish(name.value.trim());
      dialog.close();
      location.hash = `#/wall/${path(publishing.name)}`;
    } catch (error) {
      fill(wrong, trouble(error));
      go.disabled = false;
    }
  });
}

async function publish(name) {
  if (!navigator.mediaDevices) throw new Error(t("camera.insecure"));
  await publishing.stop();
  const undo = [];
  try {
    const both = await Promise.allSettled([camera(undo), make(name, undo)]);
    for (const one of both) if (one.reason) throw one.reason;
    const media = both[0].value;
    const peer = new RTCPeerConnection({ iceServers: [] });
    undo.unshift(() => peer.close());
    for (const track of media.getTracks()) {
      peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
      track.addEventListener("ended", () => publishing.stop());
    }
    peer.addEventListener("connectionstatechange", () => peer.connectionState === "failed" && publishing.stop());
    undo.unshift(await offer(peer, `/whip/${path(name)}`));
  } catch (error) {
    for (const one of undo) await one();
    throw error;
  }
  const stop = async ({ hurry = false } = {}) => {
    if (publishing.name !== name) return; // twice
    publishing.name = "";
    publishing.stop = async () => {};
    publishing.changed();
    if (hurry) return void undo.forEach((one) => one());
    for (const one of undo) await one();
    announce(t("camera.off", { name }));
    live.refreshStreams();
  };
  Object.assign(publishing, { name, stop });
  publishing.changed();
  announce(t("camera.on", { name }));
  live.refreshStreams();
}

async function camera(undo) {
  try {
    const media = await navigator.mediaDevices.getUserMedia({ video: PICTURE, audio: false });
    undo.push(() => media.getTracks().forEach((one) => one.stop()));
    return media;
  } catch (error) {
    throw new Error(t(error.name === "NotAllowedError" ? "camera.refused" : "camera.none"));
  }
}

/** A stream of that name to publish into. One that was there already stays when we leave. */
async function make(name, undo) {
  try {
    await post("/api/streams", { name, type: "webrtc" });
  } catch (error) {
    if (error.status === 409 && live.streams?.some((one) => one.name === name && one.whip)) return;
    throw error;
  }
  undo.push(() => remove(`/api/streams/${path(name)}`).catch(() => {}));
}

addEventListener("pagehide", () => publishing.stop({ hurry: true }));
