"""A small Hugging Face Hub on loopback: what exists is served, other names are missing, fail or stall."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub:
    """Serves `root/models/<owner>/<name>/` and `root/datasets/<owner>/<name>/` as the Hub does.

    Names that contain "failing" answer 500, names that contain "stalling" don't answer for a minute.
    """

    def __init__(self, root: Path):
        self.root, self.asked = root, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlparse(request.path).path)
        self.asked.append(f"{request.command} {path}")
        if "stalling" in path:
            time.sleep(60)
        if "failing" in path:
            return self.send(request, 500, b"the server is on fire", {}, body)
        kind, owner, name, rest = self.parse(path)
        folder = self.root / kind / owner / name
        if not name or not folder.is_dir():
            return self.send(request, 404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"}, body)
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if path.startswith("/api/") and (rest.startswith("tree/") or rest.startswith("paths-info/")):
            rows = [
                {"type": "file", "path": f, "size": (folder / f).stat().st_size, "oid": self.etag(folder / f)}
                for f in files
            ]
            return self.send(request, 200, json.dumps(rows).encode(), {"Content-Type": "application/json"}, body)
        if path.startswith("/api/"):
            info = {
                "id": f"{owner}/{name}",
                "sha": COMMIT,
                "private": False,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": f} for f in files],
            }
            return self.send(request, 200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
        file = folder / rest.split("/", 2)[2] if rest.startswith("resolve/") else folder / "?"
        if not file.is_file():
            return self.send(
                request, 404, b"Entry not found", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body
            )
        self.send(request, 200, file.read_bytes(), {"ETag": f'"{self.etag(file)}"', "X-Repo-Commit": COMMIT}, body)

    @staticmethod
    def parse(path: str) -> tuple[str, str, str, str]:
        parts = path.strip("/").split("/")
        parts = parts[1:] if parts[0] == "api" else parts
        kind = parts.pop(0) if parts and parts[0] in ("models", "datasets") else "models"
        owner, name = [*parts, "", ""][:2]
        return kind, owner, name, "/".join(parts[2:])

    @staticmethod
    def etag(path: Path) -> str:
        return hashlib.sha1(path.read_bytes()).hexdigest()

    @staticmethod
    def send(request, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        try:
            request.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                request.send_header(key, value)
            request.end_headers()
            if body:
                request.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the client has hung up, as it should after a stall
            pass
