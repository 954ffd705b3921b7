"""Steady load from inside the cluster: unique prompts at a fixed concurrency until SIGTERM, one JSON line per request.

Runs in a pod of the operator's image (Python and aiohttp are there), with this file mounted from a ConfigMap, because a
port-forward pins one pod and so would hide what a Service does. Settings come from the environment: URL, MODEL,
CONCURRENCY, MAX_TOKENS, PROMPT_WORDS, TIMEOUT (seconds).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import aiohttp

DEADLINE = 900.0


async def one(session: aiohttp.ClientSession, number: int) -> dict[str, object]:
    words = int(os.environ["PROMPT_WORDS"])
    prompt = f"request {number} " + " ".join(f"w{number}-{i}" for i in range(words))
    body = {
        "model": os.environ["MODEL"],
        "prompt": prompt,
        "max_tokens": int(os.environ["MAX_TOKENS"]),
        "temperature": 0,
    }
    started = time.time()
    record: dict[str, object] = {"number": number, "at": started, "status": 0, "error": ""}
    try:
        async with session.post(os.environ["URL"] + "/v1/completions", json=body) as answer:
            text = await answer.text()
            record["status"] = answer.status
            record["error"] = fault(answer.status, text)
    except (aiohttp.ClientError, TimeoutError) as error:
        record["error"] = f"{type(error).__name__}: {error}"
    record["seconds"] = round(time.time() - started, 4)
    return record


def fault(status: int, text: str) -> str:
    """What is wrong with an answer, empty if nothing: an engine that drains answers 200 with `abort` and no text."""
    if status != 200:
        return text[:300]
    choice = json.loads(text)["choices"][0]
    return "" if choice["finish_reason"] in ("length", "stop") else f"finish_reason {choice['finish_reason']}"


async def client(session: aiohttp.ClientSession, numbers: list[int], stop: asyncio.Event) -> None:
    while not stop.is_set():
        numbers[0] += 1
        record = await one(session, numbers[0])
        print(json.dumps(record), flush=True)
        if record["error"]:
            await asyncio.sleep(0.2)  # a refused connection answers at once: do not spin


async def main() -> None:
    # A connection per request: each lets kube-proxy choose a router anew, as separate clients would.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=float(os.environ["TIMEOUT"]))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.call_later(DEADLINE, stop.set)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        numbers = [0]
        await asyncio.gather(*(client(session, numbers, stop) for _ in range(int(os.environ["CONCURRENCY"]))))
    print(json.dumps({"done": numbers[0]}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
