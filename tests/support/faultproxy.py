"""An HTTP proxy before a real S3 server that does to requests what networks and stores do.

Faults are listed in ``proxy.faults`` and used up in that order, each by the first request that fits.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_XML = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>words of the server</Message></Error>'


@dataclass
class Fault:
    """One thing that goes wrong.

    method, path: which requests it hits; path is a part of the URL. times: how often; 0 is for ever.
    keep: bytes of the answer's body that still arrive before the connection breaks.
    status, code, body: answer this instead of asking the server. lost: ask the server, then break off.
    before: called before anything else, to change the world at that moment.
    """

    method: str
    path: str = ""
    times: int = 1
    keep: int | None = None
    status: int | None = None
    code: str = ""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    before: Callable[[], None] | None = None

    def fits(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and self.path in path


@dataclass
class Proxy:
    """A running proxy. seen: method, path and headers of every request, in order."""

    endpoint: str
    upstream: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self.lock:
            self.seen.append((method, path, headers))
            for fault in self.faults:
                if fault.fits(method, path):
                    if fault.times == 1:
                        self.faults.remove(fault)
                    elif fault.times:
                        fault.times -= 1
                    return fault
        return None


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before the server at ``upstream`` (http://host:port)."""
    proxy = Proxy("", upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Bound(_Handler):
        pass

    Bound.proxy = proxy
    return Bound


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        fault = self.proxy.take(self.command, self.path, dict(self.headers))
        body = self._read_body()
        if fault is not None and fault.before is not None:
            fault.before()
        if fault is not None and fault.status is not None:
            canned = _XML.format(code=fault.code).encode() if fault.body is None else fault.body
            self._answer(fault.status, fault.headers, canned)
            return
        status, headers, answer = self._ask(body)
        if fault is not None and fault.lost:
            self._break()
            return
        self._answer(status, headers, answer, keep=fault.keep if fault is not None else None)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=30)
        try:
            headers = {
                k: v for k, v in self.headers.items() if k.lower() not in ("expect", "transfer-encoding")
            }
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, keep: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        # The answer to HEAD tells the length of what it does not send.
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if keep is None else body[:keep])
        if keep is not None:
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass
