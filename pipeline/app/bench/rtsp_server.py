"""A real RTSP server (GStreamer) for tests and benches. Run it with the system's Python, which has GStreamer's
bindings (`gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav`):

    /usr/bin/python3 rtsp_server.py --mount cam=clip.mp4 --mount live=pattern:640x360@15 --auth user:password --digest

It prints `ready PORT` once it listens on the loopback, and serves until it is killed. A mount is an MP4 file with H.264
in it, played in real time over and over (`ffmpeg` makes it long enough first), or a live test picture, with a
tone (G.711) beside it where it says `+sound`.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_PATTERN = re.compile(r"pattern:(?P<width>\d+)x(?P<height>\d+)@(?P<fps>\d+)(?P<sound>\+sound)?")


def _libraries() -> tuple[Any, Any, Any, Any]:
    gi = importlib.import_module("gi")
    for name, version in (("Gst", "1.0"), ("GstRtsp", "1.0"), ("GstRtspServer", "1.0")):
        gi.require_version(name, version)
    names = ("GLib", "Gst", "GstRtsp", "GstRtspServer")
    glib, gst, gst_rtsp, gst_rtsp_server = (importlib.import_module(f"gi.repository.{name}") for name in names)
    gst.init(None)
    return glib, gst, gst_rtsp, gst_rtsp_server


def _launch(what: str, loops: int, workdir: Path) -> str:
    """The pipeline that makes the stream `what`."""
    pattern = _PATTERN.fullmatch(what)
    if pattern:
        tone = " audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0"
        return (
            "( videotestsrc is-live=true pattern=ball"
            " ! video/x-raw,width={width},height={height},framerate={fps}/1"
            " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} sliced-threads=false"
            " ! rtph264pay name=pay0 pt=96 config-interval=1{tone} )"
        ).format_map(pattern.groupdict() | {"tone": tone if pattern["sound"] else ""})
    film = Path(what).resolve(strict=True)
    if loops > 1:
        long = workdir / f"{len(list(workdir.iterdir()))}.mp4"
        command = ["ffmpeg", "-v", "error", "-stream_loop", str(loops - 1), "-i", str(film), "-an", "-c", "copy"]
        subprocess.run([*command, str(long)], check=True, stdin=subprocess.DEVNULL)  # noqa: S603  # no shell
        film = long
    # parameter sets in the stream itself would cut key frames of several slices in two
    return f'( filesrc location="{film}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=0 )'


def main() -> None:
    parser = argparse.ArgumentParser(description="serve H.264 over RTSP on 127.0.0.1")
    parser.add_argument("--mount", action="append", required=True, metavar="NAME=FILE|pattern:WxH@FPS[+sound]")
    parser.add_argument("--port", default="0", help="0: any free one")
    parser.add_argument("--loops", type=int, default=60, help="how often a file is played")
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="let in nobody else")
    parser.add_argument("--digest", action="store_true", help="ask for Digest authentication, not Basic")
    options = parser.parse_args()

    glib, gst, gst_rtsp, gst_rtsp_server = _libraries()
    with tempfile.TemporaryDirectory(prefix="rtsp-server-") as workdir:
        server = gst_rtsp_server.RTSPServer(address="127.0.0.1", service=options.port)
        role = "viewer"
        if options.auth:
            user, _, password = options.auth.partition(":")
            token = gst_rtsp_server.RTSPToken()
            token.set_string(gst_rtsp_server.RTSP_TOKEN_MEDIA_FACTORY_ROLE, role)
            auth = gst_rtsp_server.RTSPAuth()
            if options.digest:
                auth.set_supported_methods(gst_rtsp.RTSPAuthMethod.DIGEST)
                auth.add_digest(user, password, token)
            else:
                auth.add_basic(gst_rtsp_server.RTSPAuth.make_basic(user, password), token)
            server.set_auth(auth)
        for mount in options.mount:
            name, _, what = mount.partition("=")
            factory = gst_rtsp_server.RTSPMediaFactory()
            factory.set_launch(_launch(what, options.loops, Path(workdir)))
            factory.set_shared(True)
            if options.auth:
                grants = gst.Structure.from_string(
                    f"{role}, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
                )[0]
                permissions = gst_rtsp_server.RTSPPermissions()
                permissions.add_role_from_structure(grants)
                factory.set_permissions(permissions)
            server.get_mount_points().add_factory(f"/{name}", factory)
        if server.attach(None) == 0:
            raise SystemExit(f"cannot listen on 127.0.0.1:{options.port}")
        print(f"ready {server.get_bound_port()}", flush=True)
        glib.MainLoop().run()


if __name__ == "__main__":
    main()
