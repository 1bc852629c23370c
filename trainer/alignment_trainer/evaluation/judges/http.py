"""Chat completions over HTTP: one request with retries, within caps on requests and tokens. No library of a vendor."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from alignment_trainer.errors import RequestError

__all__ = ["ANSWER_TOKENS", "CapReached", "Caps", "ChatClient", "NoAnswer"]

_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
ANSWER_TOKENS: Final = 16
_TIMEOUT_SECONDS: Final = 120.0
_CHARACTERS_PER_TOKEN: Final = 4


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like others: followed, it would take the key along to whatever host it names."""

    def redirect_request(self, *_: Any) -> None:
        """None: nothing is asked in its place."""


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


class CapReached(Exception):
    """The cap on requests or tokens does not allow this request."""


class NoAnswer(Exception):
    """No usable answer after all attempts. transport: the endpoint could not be reached or kept failing."""

    def __init__(self, why: str, *, transport: bool) -> None:
        super().__init__(why)
        self.transport = transport


@dataclass
class Caps:
    """Requests and tokens used, and how many are allowed. Thread-safe."""

    maximum_requests: int
    maximum_tokens: int
    requests: int = 0
    tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, tokens: int) -> None:
        """Reserve one request and an estimate of its tokens. Raises CapReached."""
        with self._lock:
            if self.requests >= self.maximum_requests or self.tokens + tokens > self.maximum_tokens:
                raise CapReached
            self.requests += 1
            self.tokens += tokens

    def correct(self, estimated: int, used: int) -> None:
        """Replace the estimate by what the endpoint counted."""
        with self._lock:
            self.tokens += used - estimated


@dataclass(frozen=True)
class ChatClient:
    """One endpoint. url: ends before /chat/completions. wait: called with the seconds to sleep between attempts."""

    url: str
    model: str
    token: str | None
    caps: Caps
    attempts: int = 5
    wait: Callable[[float], None] = time.sleep

    def ask(self, messages: list[dict[str, Any]]) -> str:
        """The answer's text. Raises CapReached, NoAnswer, and RequestError when the endpoint refuses who we are or what we name."""
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        estimated = sum(len(m["content"]) for m in messages) // _CHARACTERS_PER_TOKEN + ANSWER_TOKENS
        why = "no attempt was made"
        for attempt in range(self.attempts):
            self.caps.take(estimated)
            try:
                answer = self._post(json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                pause = self._refused(error, attempt)
                why = f"HTTP {error.code}"
            except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
                why, pause = type(error).__name__, _backoff(attempt)
            else:
                return self._text(answer, estimated)
            if attempt + 1 < self.attempts:
                self.wait(pause)
        raise NoAnswer(f"{why}, {self.attempts} times", transport=True)

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310  the contract allows http and https only
            self.url.rstrip("/") + "/chat/completions", data=body, headers=headers, method="POST"
        )
        with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as response:
            return json.loads(response.read())

    def _refused(self, error: urllib.error.HTTPError, attempt: int) -> float:
        """Seconds to wait before the next attempt. Raises where another attempt would be refused as well."""
        with error:
            if error.code in _RETRIED:
                asked = error.headers.get("Retry-After", "")
                return min(60.0, float(asked)) if asked.isdigit() else _backoff(attempt)
            if error.code in (401, 403):
                raise RequestError(
                    f"The judge at {self.url} answered HTTP {error.code}; check the key in evaluation.judge.secretRef.",
                    reason="JudgeRefused",
                ) from None
            if 300 <= error.code < 400:
                raise RequestError(
                    f"The judge at {self.url} redirects (HTTP {error.code}), and its key is sent nowhere else; put the address "
                    "that answers into evaluation.judge.url.",
                    reason="JudgeRefused",
                ) from None
            if error.code == 404:
                raise RequestError(
                    f"The judge at {self.url} does not know {self.model} or has no /chat/completions (HTTP 404); check "
                    "evaluation.judge.url and model.",
                    reason="JudgeRefused",
                ) from None
            raise NoAnswer(f"HTTP {error.code}", transport=False) from None

    def _text(self, answer: Any, estimated: int) -> str:
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise NoAnswer("not a chat completion", transport=False) from None
        used = (answer.get("usage") or {}).get("total_tokens")
        if isinstance(used, int) and used >= 0:
            self.caps.correct(estimated, used)
        return text if isinstance(text, str) else ""


def _backoff(attempt: int) -> float:
    return min(30.0, 0.5 * 2.0**attempt)
