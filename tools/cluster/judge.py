"""The simulated clinician of the demo as a judge: runs in a pod, speaks chat completions, knows the hidden style.

Self-contained but for the demo's world, because the pod gets this one file.
"""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from alignment_cli.demo.world import broken_rules

PORT = 8000
_QUESTION = re.compile(
    r"\[(?P<mark>\w+) request\]\n.*\n\[(?P=mark) answer A\]\n(?P<first>.*)\n\[(?P=mark) answer B\]\n"
    r"(?P<second>.*)\n\[(?P=mark) end\]",
    re.DOTALL,
)


def verdict(question: str) -> str:
    """The judge's one line: the answer that breaks fewer rules of the clinician's style. Raises ValueError."""
    found = _QUESTION.match(question)
    if found is None:
        raise ValueError("not a question of the stage evaluate")
    first, second = (len(broken_rules(found[name].strip())) for name in ("first", "second"))
    return f"VERDICT: {'TIE' if first == second else 'A' if first < second else 'B'}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = verdict(body["messages"][-1]["content"])
        message = {"message": {"role": "assistant", "content": content}}
        self._answer({"choices": [message], "usage": {"total_tokens": 1}})

    def _answer(self, reply: object) -> None:
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), _Handler).serve_forever()  # noqa: S104  only the pod's own network
