"""A scrape takes the whole body, however it arrives."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from phasewatt.controllers import traffic
from phasewatt.controllers.traffic import read_text


async def fetched(*parts: bytes) -> str:
    """What `read_text` makes of a body that is sent in parts, each flushed before the next."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_get("/metrics", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
            return await read_text(response.content)
    finally:
        await runner.cleanup()


async def test_a_body_in_pieces_is_read_to_its_end() -> None:
    assert await fetched(b"a_total 1\n", b"b_total 2\n") == "a_total 1\nb_total 2\n"


async def test_an_endless_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "RESPONSE_LIMIT", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        await fetched(b"x" * 8, b"x" * 8)
