"""Serves ``/progress`` (JSON) and ``/metrics`` (Prometheus text) of a running stage from a thread.

In a pod the operator and Prometheus read it on port 8081; on one machine the port is chosen freely and only
loopback listens.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from alignment_trainer.errors import RequestError
from alignment_trainer.runtime.live import STAGE_SERIES, series_name
from alignment_trainer.runtime.progress import ProgressReporter

__all__ = ["PROGRESS_ADDRESS", "metrics_text", "serve"]

PROGRESS_ADDRESS = "ALIGNMENT_PROGRESS_ADDRESS"
"""Environment variable ``host:port``; pods set :8081, which is all addresses; default 127.0.0.1:0."""
_log = logging.getLogger(__name__)


@contextmanager
def serve(reporter: ProgressReporter) -> Iterator[int]:
    """Serve until the block ends; yields the port. Raises RequestError when the address cannot be used."""
    address = os.environ.get(PROGRESS_ADDRESS, "127.0.0.1:0")
    host, _, port = address.rpartition(":")
    try:
        server = _server(host)((host, int(port)), _handler(reporter))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{PROGRESS_ADDRESS}={address} cannot be listened on ({error}); give a free host:port."
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="progress", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def metrics_text(reporter: ProgressReporter) -> str:
    """Prometheus text of the present state: step counts and the stage's own latest values."""
    status, metrics = reporter.snapshot()
    values = {
        "alignment_stage_step": status.step,
        "alignment_stage_steps": status.steps,
        **{series_name(name): value for name, value in metrics.items()},
    }
    lines = []
    for name, sentence in STAGE_SERIES.items():
        if name in values:
            lines += [
                f"# HELP {name} {sentence}",
                f"# TYPE {name} gauge",
                f'{name}{{stage="{status.stage}"}} {values[name]!r}',
            ]
    return "\n".join(lines) + "\n"


class _OnAllAddresses(ThreadingHTTPServer):
    """Of both families: whether a pod has IPv4, IPv6 or both is its cluster's choice."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer's own asks the DNS for the name of "::", which takes seconds where there is none.
        TCPServer.server_bind(self)


def _server(host: str) -> type[ThreadingHTTPServer]:
    return ThreadingHTTPServer if host or not socket.has_dualstack_ipv6() else _OnAllAddresses


def _handler(reporter: ProgressReporter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/progress":
                self._answer("application/json", json.dumps(reporter.to_wire()))
            elif self.path == "/metrics":
                self._answer("text/plain; version=0.0.4; charset=utf-8", metrics_text(reporter))
            else:
                self.send_error(404)

        def _answer(self, content_type: str, text: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            _log.debug(format, *args)

    return Handler
