/* This browser's camera as a stream: made, published by WHIP, taken away when it stops. */

import { path, post, remove } from "/page/api.js";
import { open } from "/page/dialog.js";
import { fill, h } from "/page/dom.js";
import { live } from "/page/live.js";
import { announce, trouble } from "/page/parts.js";
import { offer } from "/page/peer.js";
import { t } from "/page/words.js";

const PICTURE = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 15, max: 15 } };

/** What is published now. `changed` is called when that begins and ends. */
export const publishing = { name: "", stop: async () => {}, changed: () => {} };

export function askForCamera() {
  const wrong = h("div");
  const name = h("input", { id: "camera-name", name: "name", required: true, autocomplete: "off", maxlength: 60, value: "browser" });
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
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ video: PICTURE, audio: false });
  } catch (error) {
    throw new Error(t(error.name === "NotAllowedError" ? "camera.refused" : "camera.none"));
  }
  const tracks = media.getTracks();
  const peer = new RTCPeerConnection({ iceServers: [] });
  const undo = [() => peer.close(), () => tracks.forEach((one) => one.stop())];
  try {
    await post("/api/streams", { name, type: "webrtc" });
    undo.unshift(() => remove(`/api/streams/${path(name)}`).catch(() => {}));
    for (const track of tracks) peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
    undo.unshift(await offer(peer, `/whip/${path(name)}`));
  } catch (error) {
    for (const one of undo) await one();
    throw error;
  }
  const stop = async () => {
    if (publishing.name !== name) return;
    publishing.name = "";
    publishing.stop = async () => {};
    publishing.changed();
    for (const one of undo) await one();
    announce(t("camera.off", { name }));
    live.refreshStreams();
  };
  tracks[0].addEventListener("ended", stop);
  peer.addEventListener("connectionstatechange", () => peer.connectionState === "failed" && stop());
  Object.assign(publishing, { name, stop });
  publishing.changed();
  announce(t("camera.on", { name }));
  live.refreshStreams();
}

addEventListener("pagehide", () => publishing.stop());
