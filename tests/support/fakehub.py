"""A Hugging Face hub of one model, on the wire: as much of its HTTP interface as pinning and downloading need."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


@contextmanager
def fake_hub(folder: Path, name: str, branch: str = "main") -> Iterator[str]:
    """Serve the files of ``folder`` as model ``name``; yields the endpoint. Weights are LFS files, as on the hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder, name, branch))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(folder: Path, name: str, branch: str) -> type[BaseHTTPRequestHandler]:
    class Bound(_Hub):
        pass

    Bound.folder, Bound.model, Bound.revisions = folder, name, (branch, COMMIT)
    return Bound


class _Hub(BaseHTTPRequestHandler):
    folder: Path
    model: str
    revisions: tuple[str, ...]
    protocol_version = "HTTP/1.1"

    def answer_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        for revision in self.revisions:
            if path == f"/api/models/{self.model}/revision/{revision}":
                self._send_json(self._info())
                return
            if path == f"/api/models/{self.model}/tree/{revision}":
                self._send_json([self._entry(item) for item in self._info()["siblings"]])
                return
            prefix = f"/{self.model}/resolve/{revision}/"
            if path.startswith(prefix) and (self.folder / path.removeprefix(prefix)).is_file():
                data = (self.folder / path.removeprefix(prefix)).read_bytes()
                etag = hashlib.sha256(data).hexdigest()
                self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
                return
        known = path.startswith((f"/{self.model}/", f"/api/models/{self.model}/"))
        code = "EntryNotFound" if f"/resolve/{COMMIT}/" in path else "RevisionNotFound"
        self._send(404, b"{}", {"X-Error-Code": code if known else "RepoNotFound"})

    do_GET = do_HEAD = answer_any

    def _info(self) -> dict[str, Any]:
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        return {"id": self.model, "sha": COMMIT, "siblings": [self._sibling(path) for path in files]}

    def _sibling(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        found: dict[str, Any] = {"rfilename": path.name, "size": len(data), "blobId": "0" * 40}
        if path.suffix == ".safetensors":
            digest = hashlib.sha256(data).hexdigest()
            found["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 130}
        return found

    def _entry(self, sibling: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in sibling.items() if key in ("size", "lfs")}
        return {"type": "file", "path": sibling["rfilename"], "oid": sibling["blobId"], **kept}

    def _send_json(self, wire: Any) -> None:
        self._send(200, json.dumps(wire).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
