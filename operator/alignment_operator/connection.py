"""How the API server is reached: credentials as kopf finds them, and HTTP over aiohttp.

In a pod the service account's token is read again whenever it is older than a minute or was refused, because
Kubernetes rotates it. Elsewhere the kubeconfig counts (KUBECONFIG, ~/.kube/config), without plug-ins.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import kopf

from alignment_operator.errors import SettingsError, Unreachable

__all__ = ["HttpTransport", "login"]

_TOKEN_SECONDS = 60.0
_TIMEOUT = aiohttp.ClientTimeout(total=30.0, connect=5.0)


def login() -> kopf.ConnectionInfo:
    """Server and credentials. Raises SettingsError when there are none."""
    settings = kopf.OperatorSettings()
    try:
        info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(
            settings=settings
        )
    except (kopf.LoginError, OSError, KeyError) as error:
        raise SettingsError(
            f"The kubeconfig cannot be used ({error}); set KUBECONFIG to one that can."
        ) from error
    if info is None:
        raise SettingsError(
            "Neither a service account nor a kubeconfig was found; run in a cluster or set KUBECONFIG."
        )
    return info


class HttpTransport:
    """HTTP to the API server. Use as an async context manager."""

    def __init__(self, info: kopf.ConnectionInfo) -> None:
        self._info = info
        self._read = time.monotonic()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._info.as_ssl_context(), limit=64)
        self._session = aiohttp.ClientSession(
            base_url=self._info.server.rstrip("/")
            + "/",  # it may have a path: behind a proxy for many clusters
            connector=connector,
            timeout=_TIMEOUT,
            headers={"User-Agent": "alignment-operator"},
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        """One exchange; after a 401 the credentials are read anew and it is tried once more."""
        self._refresh(_TOKEN_SECONDS)
        answer = await self._once(method, path, query, body, content_type)
        if answer[0] == 401:
            self._refresh(0.0)
            answer = await self._once(method, path, query, body, content_type)
        return answer

    async def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, Mapping[str, str], Any]:
        assert self._session is not None  # noqa: S101  entered before use
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._info.as_http_headers(), "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method, path.lstrip("/"), params=query, data=data, headers=headers, proxy=self._info.proxy_url
            ) as response:
                raw = await response.read()
                return response.status, response.headers, _decoded(raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error

    def _refresh(self, older_than: float) -> None:
        if time.monotonic() - self._read >= older_than:
            self._info = login()
            self._read = time.monotonic()


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else {}
    except ValueError:
        return raw.decode(errors="replace")[:1024]
