"""The status store on Redis: the current state of every instance, its outbox and its deadline.

One hash an instance: `version`, `state` and `outbox` (messages decided on but not yet known to be
published). A change is one script: it compares the version, writes state and outbox, and sets the deadline.
Redis is fast memory, never the only memory: what is missing here is rebuilt from the DeployFlows' `.status`.

States are opaque bytes. Deadlines are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from shared.domain.safe_text import without_login
from shared.domain.topics import Key
from shared.errors import ConfigError, Unavailable

FIRING_MS: Final = 1_000
"""A deadline that was published comes again after this time, unless its owner has set the next one."""

CONNECTIONS: Final = 50
"""Calls under way at once; Redis does one at a time."""

_COMMIT = """
local version = redis.call('HGET', KEYS[1], 'version')
if (version or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'state', ARGV[3], 'outbox', ARGV[4])
if ARGV[4] == '' then redis.call('SREM', KEYS[3], ARGV[5]) else redis.call('SADD', KEYS[3], ARGV[5]) end
if ARGV[6] == '' then redis.call('ZREM', KEYS[2], ARGV[5]) else redis.call('ZADD', KEYS[2], ARGV[6], ARGV[5]) end
if ARGV[7] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('EXPIRE', KEYS[1], ARGV[7]) end
return 1
"""
_PUBLISHED = """
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'outbox', '')
redis.call('SREM', KEYS[2], ARGV[2])
return 1
"""
_FIRE = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, 100)
for n = 1, #due, 2 do redis.call('ZADD', KEYS[1], ARGV[2], due[n]) end
return due
"""


class Stored(NamedTuple):
    version: int
    state: bytes
    outbox: bytes


class StatusStore:
    """Compare-and-set of instance states. Every call raises `Unavailable` when Redis does not answer."""

    def __init__(self, url: str, prefix: str) -> None:
        self._where = without_login(url)
        self._prefix = prefix
        try:
            # many instances at once, as at a start, wait for a connection instead of being refused one
            pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS, timeout=20, socket_timeout=5, socket_connect_timeout=5
            )
        except ValueError:
            # the client's own text has the URL, with the password
            msg = f"TRITON_REDIS_URL: the client of Redis can't use {self._where} with these options: check them"
            raise ConfigError(msg) from None
        self._redis: Any = redis.asyncio.Redis.from_pool(pool)
        self._commit = self._redis.register_script(_COMMIT)
        self._published = self._redis.register_script(_PUBLISHED)
        self._fire = self._redis.register_script(_FIRE)
        self._deadlines = f"{prefix}:deadlines"
        self._unpublished = f"{prefix}:unpublished"

    def _name(self, key: Key | str) -> str:
        return f"{self._prefix}:instance:{key}"

    async def ping(self) -> None:
        await self._answer(self._redis.ping())

    async def load(self, key: Key) -> Stored | None:
        version, state, outbox = await self._answer(
            self._redis.hmget(self._name(key), "version", "state", "outbox")
        )
        return None if version is None else Stored(int(version), state, outbox or b"")

    async def states(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the states that Redis has, None where it has none."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(self._name(key), "state")
        found: list[bytes | None] = await self._answer(pipeline.execute())
        return found

    async def versions(self, keys: Sequence[Key]) -> list[int]:
        """Return the versions that Redis has, 0 where it has none."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(self._name(key), "version")
        return [int(version or 0) for version in await self._answer(pipeline.execute())]

    async def commit(
        self,
        key: Key,
        *,
        expected: int,
        version: int,
        state: bytes,
        outbox: bytes,
        deadline: int | None,
        ttl_seconds: int | None,
    ) -> bool:
        """Write the state if Redis still has the expected version (0: none); False when it has another."""
        done = await self._answer(
            self._commit(
                keys=[self._name(key), self._deadlines, self._unpublished],
                args=[
                    str(expected),
                    str(version),
                    state,
                    outbox,
                    str(key),
                    "" if deadline is None else str(deadline),
                    "" if ttl_seconds is None else str(ttl_seconds),
                ],
            )
        )
        return bool(done)

    async def published(self, key: Key, version: int) -> None:
        """Record that the outbox of this version is published."""
        await self._answer(
            self._published(keys=[self._name(key), self._unpublished], args=[str(version), str(key)])
        )

    async def unpublished(self) -> list[Key]:
        """Return the instances whose outbox is not empty."""
        return [
            Key.parse(member.decode())
            for member in await self._answer(self._redis.smembers(self._unpublished))
        ]

    async def fire(self, now: int) -> dict[Key, int]:
        """Return the instances whose deadline has passed, and when. Each returns a little later until its owner acts."""
        due = await self._answer(self._fire(keys=[self._deadlines], args=[str(now), str(now + FIRING_MS)]))
        return {
            Key.parse(member.decode()): int(float(deadline))
            for member, deadline in zip(due[::2], due[1::2], strict=True)
        }

    async def close(self) -> None:
        await self._redis.aclose()

    async def _answer(self, call: Any) -> Any:
        try:
            return await call
        except (RedisError, OSError) as error:
            msg = f"Redis at {self._where} does not answer: {error or type(error).__name__}"
            raise Unavailable(msg) from error
