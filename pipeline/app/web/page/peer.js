/* WebRTC by HTTP: one offer, one answer, a place to end it (RFC 9725 and its counterpart for watching). */

import { refuse } from "/page/api.js";

const GATHERING_MS = 500; // candidates of this machine are there at once; others would need a server that we do not have

/** Offers what `peer` holds at `path`; returns what ends the session (a promise of it). Throws `Refused`. */
export async function offer(peer, path, signal) {
  await peer.setLocalDescription(await peer.createOffer());
  await gathered(peer);
  signal?.throwIfAborted();
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: peer.localDescription.sdp,
    credentials: "same-origin",
    signal,
  });
  if (answer.status !== 201) await refuse(answer, path);
  const place = answer.headers.get("Location");
  const end = async () => place && fetch(place, { method: "DELETE", keepalive: true, credentials: "same-origin" }).catch(() => {});
  try {
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  } catch (error) {
    end();
    throw error;
  }
  return end;
}

function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((done) => {
    const late = setTimeout(done, GATHERING_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(late);
      done();
    });
  });
}
