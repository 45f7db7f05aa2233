"""Where streams come from: one adapter a file. To add one: a module with its class, a line here, a test that runs the
contract suite of `tests/contracts`, an example config."""

from pipeline.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "source",
    "thresher.sources",
    {
        "faulty": "sources.faulty:Faulty",
        "file": "sources.file:File",
        "folder": "sources.folder:Folder",
        "http": "sources.http:Http",
        "irc": "sources.irc:Irc",
        "kafka": "sources.kafka:Kafka",
        "line": "sources.line:Line",
        "lines": "sources.lines:Lines",
        "memory": "sources.memory:Memory",
        "microphone": "sources.microphone:Microphone",
        "pattern": "sources.pattern:Pattern",
        "pcm": "sources.pcm:Pcm",
        "pcm-socket": "sources.pcm_socket:PcmSocket",
        "rtsp": "sources.rtsp:Rtsp",
        "sound": "sources.sound_file:SoundFile",
        "webcam": "sources.webcam:Webcam",
        "webrtc": "sources.webrtc:WebRtc",
        "websocket": "sources.websocket:WebSocket",
    },
)
