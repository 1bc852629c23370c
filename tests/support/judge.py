"""A judge on the wire: a real HTTP server that speaks chat completions and answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["JudgeServer", "judge_server", "shown"]

Reply = tuple[int, dict[str, str], Any]
"""Status, headers and body (JSON-able, or text as it is)."""


def shown(body: dict[str, Any]) -> tuple[str, str]:
    """The two answers of a question, in the order in which they are shown."""
    lines = body["messages"][1]["content"].split("\n")
    mark = lines[0].removeprefix("[").split(" ")[0]
    text = "\n".join(lines)
    first = text.split(f"[{mark} answer A]\n")[1].split(f"\n[{mark} answer B]")[0]
    second = text.split(f"[{mark} answer B]\n")[1].split(f"\n[{mark} end]")[0]
    return first, second


@dataclass
class JudgeServer:
    """answer: from the two shown texts to the judge's words. replies: taken first, one a request."""

    answer: Callable[[str, str], str] = lambda _first, _second: "VERDICT: A"
    replies: list[Reply] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    usage: int | None = 100
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, path: str, token: str | None, body: dict[str, Any]) -> Reply:
        with self._lock:
            self.requests.append(body)
            self.tokens.append(token)
            if self.replies:
                return self.replies.pop(0)
        if path != "/v1/chat/completions":
            return 404, {}, {"error": "no such path"}
        message = {"message": {"role": "assistant", "content": self.answer(*shown(body))}}
        reply: dict[str, Any] = {"choices": [message]}
        if self.usage is not None:
            reply["usage"] = {"total_tokens": self.usage}
        return 200, {}, reply


@contextmanager
def judge_server(**settings: Any) -> Iterator[JudgeServer]:
    """Serve on a free port of the loopback until the block ends."""
    judge = JudgeServer(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, reply = judge.handle(self.path, self.headers.get("Authorization"), body)
            data = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
