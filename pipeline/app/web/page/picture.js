/* A stream's live picture: by WebRTC with boxes drawn here on the very frame they belong to; where that is not to be
   had, as pictures by HTTP with boxes drawn there; at worst one picture now and then. It plays only while it is seen. */

import { path } from "/page/api.js";
import { draw } from "/page/boxes.js";
import { h } from "/page/dom.js";
import { offer } from "/page/peer.js";

const WAIT_MS = 6000; // for the first frame
const KEPT = 64; // detections of frames that were not shown yet: four seconds of 15 a second
const STILL_MS = 1000;
const MOTIONS = 3; // a browser opens six connections to a server, and the page needs some of them
const RETRY_MS = 10000;
const BLANKS = 10; // frames without a time stamp before it is clear that this browser tells none
let motions = 0;
let stamps = "requestVideoFrameCallback" in HTMLVideoElement.prototype;

/** An element that plays `stream`; its `gone()` ends it. `shown` is called with how: "webrtc", "mjpeg", "still". */
export function picture(stream, { width = 640, shown = () => {} } = {}) {
  const still = h("img", { alt: "", decoding: "async", hidden: true });
  const video = h("video", { autoplay: true, playsinline: true, hidden: true });
  video.muted = true;
  const canvas = h("canvas", { "aria-hidden": "true", hidden: true });
  const element = h("div", { class: "picture" }, still, video, canvas);
  const url = (kind) => `/api/streams/${path(stream)}/${kind}?annotated=true&width=${width}`;
  let way = null; // what ends the present way of showing
  let seen = false;
  let turn = 0;

  function first(how) {
    element.dataset.shows = how;
    once("first-picture");
    if (how === "webrtc") once("first-motion");
    shown(how);
  }

  function play() {
    if (way || !seen || document.hidden) return;
    const mine = ++turn;
    const here = () => mine === turn;
    const ends = [];
    const end = () => ends.splice(0).forEach((one) => one());
    way = end;
    ends.push(byStills(here)); // at once, and until something better moves
    byPeer(here, ends)
      .catch(() => "mjpeg")
      .then((instead) => {
        if (!here() || !instead) return;
        end();
        video.hidden = canvas.hidden = true;
        ends.push(motions < MOTIONS ? byMotion(here) : byStills(here));
        const again = setTimeout(() => here() && (pause(), play()), RETRY_MS * (1 + Math.random()));
        ends.push(() => clearTimeout(again));
      });
  }

  function pause() {
    turn += 1;
    way?.();
    way = null;
  }

  function byStills(here) {
    let timer = 0;
    const next = () => here() && (still.src = `${url("picture.jpg")}&t=${Date.now()}`);
    const loaded = () => {
      still.hidden = false;
      if (video.hidden) first("still");
      timer = setTimeout(next, STILL_MS);
    };
    const failed = () => (timer = setTimeout(next, 2 * STILL_MS));
    still.addEventListener("load", loaded);
    still.addEventListener("error", failed);
    next();
    return () => {
      clearTimeout(timer);
      still.removeEventListener("load", loaded);
      still.removeEventListener("error", failed);
    };
  }

  function byMotion() {
    motions += 1;
    const loaded = () => {
      still.hidden = false;
      first("mjpeg");
    };
    still.addEventListener("load", loaded);
    still.src = `${url("mjpeg")}&t=${Date.now()}`;
    return () => {
      motions -= 1;
      still.removeEventListener("load", loaded);
      still.removeAttribute("src"); // ends the connection
    };
  }

  /** Resolves when it ended by itself, with what is to be tried instead. */
  async function byPeer(here, ends) {
    const exact = stamps; // otherwise the server draws
    const stop = new AbortController();
    const peer = new RTCPeerConnection({ iceServers: [] });
    let leave = null;
    const over = () => {
      stop.abort();
      video.srcObject = null;
      const ended = ["failed", "closed", "disconnected"].includes(peer.connectionState);
      const said = ended ? null : leave?.();
      leave = null;
      if (said) said.finally(() => peer.close()); // told first: what is closed already cannot be left
      else peer.close();
    };
    ends.push(over);
    const { receiver } = peer.addTransceiver("video", { direction: "recvonly" });
    receiver.jitterBufferTarget = 0; // as it happens, rather than without a stutter
    const boxes = exact ? onFrames(peer.createDataChannel("detections", { ordered: false, maxRetransmits: 0 }), here) : null;
    peer.addEventListener("track", ({ track }) => (video.srcObject = new MediaStream([track])));
    leave = await offer(peer, `/whep/${path(stream)}?view=${exact ? "raw" : "annotated"}`, stop.signal);
    if (!here()) return over();
    return new Promise((done) => {
      /* Where there is a picture by other means and none by this, this does not work here; else there is none yet. */
      const late = setInterval(() => element.dataset.shows && done("mjpeg"), WAIT_MS);
      peer.addEventListener("connectionstatechange", () => {
        if (["failed", "closed", "disconnected"].includes(peer.connectionState)) done("mjpeg");
      });
      const moves = () => {
        clearInterval(late);
        for (const one of ends.splice(0)) if (one !== over) one();
        ends.push(over);
        video.hidden = false;
        still.hidden = true;
        canvas.hidden = !exact;
        first("webrtc");
      };
      if (exact) boxes.begin(moves);
      else video.addEventListener("playing", moves, { once: true });
      ends.push(() => clearInterval(late));
    }).finally(over);
  }

  /** Boxes go on the frame whose time stamp they name. Those of a frame that is on the screen already are drawn at once,
      and none outlives its frame. */
  function onFrames(channel, here) {
    const waiting = new Map();
    let now = null;
    let blanks = 0;
    const show = (said) => {
      const boxes = draw(canvas, said);
      if (boxes !== Number(element.dataset.boxes)) element.dataset.boxes = boxes;
      if (said) element.dataset.latency = said.latency_ms ?? "";
    };
    channel.addEventListener("message", ({ data }) => {
      const said = JSON.parse(data);
      if (said.rtp === now) return show(said);
      waiting.set(said.rtp, said);
      if (waiting.size > KEPT) waiting.delete(waiting.keys().next().value);
    });
    const frame = (moves) => (_, metadata) => {
      if (!here()) return;
      if (moves) moves();
      now = stampOf(video) ?? metadata.rtpTimestamp ?? null;
      blanks = now === null ? blanks + 1 : 0;
      if (blanks === BLANKS) {
        stamps = false;
        pause();
        return play();
      }
      show(waiting.get(now) ?? null);
      waiting.delete(now);
      video.requestVideoFrameCallback(frame(null));
    };
    return { begin: (moves) => video.requestVideoFrameCallback(frame(moves)) };
  }

  const watcher = new IntersectionObserver(([entry]) => {
    seen = entry.isIntersecting;
    if (seen) play();
    else pause();
  });
  watcher.observe(element);
  const looked = () => (document.hidden ? pause() : play());
  document.addEventListener("visibilitychange", looked);
  element.gone = () => {
    watcher.disconnect();
    document.removeEventListener("visibilitychange", looked);
    seen = false;
    pause();
  };
  element.frame = () => (video.hidden ? still : video);
  return element;
}

/** For who measures how soon one sees something. */
function once(name) {
  if (!performance.getEntriesByName(name).length) performance.mark(name);
}

/** The RTP time stamp of the frame that is shown at this moment: of a callback that comes late, it is a later one than
    the callback is about. Undefined where the browser does not tell. */
function stampOf(video) {
  try {
    const frame = new VideoFrame(video);
    const { rtpTimestamp } = frame.metadata?.() ?? {};
    frame.close();
    return rtpTimestamp;
  } catch {
    return undefined;
  }
}
