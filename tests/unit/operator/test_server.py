"""Where the operator's own endpoints are found."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from alignment_operator.server import serving
from alignment_operator.settings import read_settings
from support.serving import free_port


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_unless_told_otherwise_it_is_found_at_an_address_of_either_family(host: str) -> None:
    listen = read_settings({"ALIGNMENT_OPERATOR_TRAINER_IMAGE": "trainer:1"}).listen
    listen = listen.replace("8080", str(free_port()))
    async with (
        serving(listen, ailing=lambda: "", ready=lambda: True, scrape=lambda: lambda: b"") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}/readyz") as answer,
    ):
        assert answer.status == 200
