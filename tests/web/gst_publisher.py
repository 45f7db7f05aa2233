"""GStreamer's webrtcbin as a publisher by WHIP, run by the system's Python (`gir1.2-gst-plugins-bad-1.0 python3-gi`):

/usr/bin/python3 gst_publisher.py URL TOKEN vp8|h264

It trickles its candidates by PATCH, as `whipclientsink` does, which Debian does not package.
"""

import sys
import threading
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

URL, TOKEN, CODEC = sys.argv[1:]
ENCODERS = {
    "vp8": "vp8enc deadline=1 ! rtpvp8pay pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! video/x-h264,profile=constrained-baseline"
    " ! rtph264pay pt=96 config-interval=-1 aggregate-mode=zero-latency"
    " ! application/x-rtp,media=video,encoding-name=H264,payload=96",
}
PIPELINE = f"""
webrtcbin name=peer bundle-policy=max-bundle
videotestsrc is-live=true pattern=solid-color foreground-color=0xff3c965a
 ! video/x-raw,width=320,height=240,framerate=15/1 ! videoconvert ! queue ! {ENCODERS[CODEC]} ! peer.
audiotestsrc is-live=true ! audioconvert ! audioresample ! queue ! opusenc
 ! rtpopuspay pt=100 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100 ! peer.
"""


def ask(url: str, body: str, kind: str, method: str, **headers: str):
    told = {"Content-Type": kind, "Authorization": f"Bearer {TOKEN}", **headers}
    return urllib.request.urlopen(urllib.request.Request(url, body.encode(), told, method=method), timeout=20)


class Publisher:
    def __init__(self) -> None:
        self.candidates: list[str] = []
        self.pipeline = Gst.parse_launch(PIPELINE)
        self.peer = self.pipeline.get_by_name("peer")
        self.peer.connect("on-negotiation-needed", self.negotiate)
        self.peer.connect("on-ice-candidate", lambda _peer, _line, one: self.candidates.append(one))
        self.pipeline.set_state(Gst.State.PLAYING)

    def negotiate(self, _peer: object) -> None:
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered))

    def offered(self, promise: "Gst.Promise") -> None:
        reply = promise.get_reply()  # held: the offer lives in it
        offer = reply.get_value("offer")
        text = offer.sdp.as_text()
        self.peer.emit("set-local-description", offer, Gst.Promise.new())
        threading.Thread(target=self.publish, args=(text,), daemon=True).start()

    def publish(self, offer: str) -> None:
        answered = ask(URL, offer, "application/sdp", "POST")
        session = urllib.parse.urljoin(URL, answered.headers["Location"])
        _, answer = GstSdp.SDPMessage.new_from_text(answered.read().decode())
        kind = GstWebRTC.WebRTCSDPType.ANSWER
        description = GstWebRTC.WebRTCSessionDescription.new(kind, answer)
        self.peer.emit("set-remote-description", description, Gst.Promise.new())
        lines = "".join(f"a={one}\r\n" for one in self.candidates)
        fragment = f"m=video 9 RTP/AVP 0\r\na=mid:video0\r\n{lines}"
        told = ask(
            session, fragment, "application/trickle-ice-sdpfrag", "PATCH", **{"If-Match": answered.headers["ETag"]}
        )
        print("published", told.status, len(self.candidates), flush=True)


Gst.init(None)
publisher = Publisher()
GLib.MainLoop().run()
