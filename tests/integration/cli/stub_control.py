"""Stands in for the interpreter that ``headway up --detach`` starts: a control plane that only says how it is.

``STUB`` in the environment: ``ready`` (announces itself and answers until told to end), ``silent`` (does neither),
``refuses`` (ends with an error of the tree), ``crashes`` (ends with a stack trace).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """``/v1/shutdown``, with this home's token alone."""
        own = f"Bearer {(Path(os.environ['HEADWAY_HOME']) / 'admin.token').read_text()}"
        allowed = self.path == "/v1/shutdown" and self.headers["Authorization"] == own
        self.send_response(202 if allowed else 401)
        body = b'{"stopping": true}' if allowed else b'{"error": {"code": "unauthenticated", "message": "no"}}'
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if allowed:
            (Path(os.environ["HEADWAY_HOME"]) / "control.json").unlink()
            os.kill(os.getpid(), signal.SIGTERM)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        print("asked", format % args, flush=True)


def main() -> None:
    how, home = os.environ["STUB"], Path(os.environ["HEADWAY_HOME"])
    print("arguments", *sys.argv[1:], flush=True)
    if how == "refuses":
        error = {"code": "already_running", "message": "taken", "where": "--control-port", "hint": "another"}
        print("some log line", file=sys.stderr)
        sys.exit(json.dumps({"error": error}))
    if how == "crashes":
        raise RuntimeError("not foreseen")
    if how == "silent":
        signal.pause()
    server = HTTPServer(("127.0.0.1", int(os.environ["HEADWAY_CONTROL_PORT"])), Healthy)
    url = f"http://127.0.0.1:{server.server_port}"
    partial = home / "control.partial"
    partial.write_text(json.dumps({"pid": os.getpid(), "control_url": url, "gateway_url": "http://gw", "version": "x"}))
    partial.rename(home / "control.json")
    server.serve_forever()


if __name__ == "__main__":
    main()
