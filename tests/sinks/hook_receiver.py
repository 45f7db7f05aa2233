"""Receives webhooks on the given port: checks their signatures with the reference library and writes down what came, a
line a POST, before it answers. What is longer than 100 kB, or holds a document of that name, it does not take.

    python hook_receiver.py PORT FILE SECRET
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MOST_BYTES = 100_000


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) > MOST_BYTES:
            self.answer(413, b"too long")
            return
        try:
            Webhook(sys.argv[3]).verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            self.answer(401, str(error).encode())
            return
        line = json.dumps({"path": self.path, "id": self.headers["webhook-id"], "body": json.loads(body)})
        with open(sys.argv[2], "a") as file:
            file.write(line + "\n")
        self.answer(200, b"thanks")

    def answer(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        pass


Server(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
