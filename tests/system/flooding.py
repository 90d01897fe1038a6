"""A hostile caller, as a process of its own: `flooding.py SECONDS REST_PORT GRPC_PORT HEALTH_PORT...`.

For so many seconds it sends headers without end to each port of HTTP and connects again whenever it is thrown out;
meanwhile it opens connections with half a header, with a large one, and silent ones to gRPC, and waits until the services
close them. Bodies that never end stay open beside all that. Prints as JSON how the connections of each kind ended: by the
status of the answer, or "closed".
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections import Counter

HALF_OPEN = 300
"""For REST; each health port gets a third of it, and gRPC too."""
SLOW_BODIES = 50
ENDLESS = 10
"""At each health port at a time; for REST four times as many."""
ENDLESS_SECONDS = 8
"""How long a header is sent where nobody throws it out."""
PAUSE_SECONDS = 0.1
LARGE = 20
PIECE = b"x" * 65_536
HALF = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
BODY = (
    b"POST /api/v2/namespaces/default/deployflows HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
)
NEVER = b"HTTP/1.1 never"
HELD_SECONDS = 60

ended: dict[str, Counter[str]] = {}


def count(kind: str, answer: bytes) -> None:
    status = answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"
    ended.setdefault(kind, Counter())[status] += 1


async def endless_headers(port: int, seconds: float) -> None:
    until = 0.0
    while not until or time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        began = time.monotonic()
        until = until or began + seconds
        answer = asyncio.ensure_future(reader.read(100))
        writer.write(HALF)
        try:
            while time.monotonic() < began + ENDLESS_SECONDS and not answer.done():
                writer.write(PIECE)
                await writer.drain()
            count("endless headers", await answer if answer.done() else NEVER)
        except OSError:
            count("endless headers", b"")
        finally:
            answer.cancel()
            writer.transport.abort()
        await asyncio.sleep(PAUSE_SECONDS)


async def held(kind: str, port: int, sent: bytes) -> None:
    answer = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), HELD_SECONDS)
        writer.close()
    except TimeoutError:
        answer = NEVER
    except OSError:
        pass
    count(kind, answer)


async def flood(seconds: float, rest: int, grpc: int, health: list[int]) -> None:
    work = [endless_headers(rest, seconds) for _ in range(4 * ENDLESS)]
    for port in health:
        work += [endless_headers(port, seconds) for _ in range(ENDLESS)]
        work += [held("half a header", port, HALF) for _ in range(HALF_OPEN // 3)]
    work += [held("half a header", rest, HALF) for _ in range(HALF_OPEN)]
    work += [held("silent gRPC", grpc, b"") for _ in range(HALF_OPEN // 3)]
    for port in (rest, *health):
        work += [held("large header", port, HALF + PIECE[:50_000]) for _ in range(LARGE)]
    slow = [asyncio.create_task(held("slow body", rest, BODY)) for _ in range(SLOW_BODIES)]
    await asyncio.gather(*work)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


def main() -> None:
    # it is another machine's time that a caller uses up
    os.nice(10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    seconds, rest, grpc, *health = sys.argv[1:]
    asyncio.run(flood(float(seconds), int(rest), int(grpc), [int(port) for port in health]))
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
