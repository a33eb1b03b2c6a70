"""Redis Streams: a consumer group whose entries start runs.

An entry is acknowledged and deleted after its run (or its refusal) is committed, so it is never
lost between the two: a consumer that dies leaves it pending and another one claims it. An entry
that is read twice has the same idempotency key, so it makes one run. A group or a stream that
vanished (FLUSHALL, a new Redis) is made again from the beginning of the stream.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger(__name__)

GROUP = "rotina"
BATCH = 32
BLOCK_SECONDS = 5.0
CLAIM_IDLE_SECONDS = 15.0
"""An entry that its consumer has not acknowledged for this long goes to another one."""
FORGET_SECONDS = 3600.0
"""Consumers without entries that were silent for this long are taken out of the group."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0

HISTORY, NEW = "0", ">"
"""Where to read: what this consumer got before and did not acknowledge, or what nobody has."""

# One script: between a look and the removal, a consumer that wakes up could get an entry, which
# its removal would take out of everybody's reach.
FORGET = """
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
    if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2])
            and (ARGV[3] == '' or ARGV[3] == consumer.name) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    end
end
"""

Entry = tuple[bytes, Mapping[bytes, bytes] | None]
Receive = Callable[[Mapping[str, Any], str, str], Awaitable[object]]
"""Fields, source and entry id: commits a run or a refusal, or raises: then the entry stays."""


def _consumer_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@dataclass
class StreamConsumer:
    """One process's consumer of one stream."""

    redis_url: str
    stream: str
    receive: Receive
    name: str = field(default_factory=_consumer_name)
    claim_idle: float = CLAIM_IDLE_SECONDS
    """Seconds."""
    block: float = BLOCK_SECONDS
    """Seconds that a read waits for an entry."""
    _position: str = HISTORY
    _claimed_at: float | None = None

    async def run(self) -> None:
        """Consume until cancelled; what goes wrong is logged and tried again, ever less often."""
        client = Redis.from_url(
            self.redis_url,
            protocol=2,
            # A read that blocks is answered in time, or the connection is dead.
            socket_timeout=self.block + 10,
            socket_connect_timeout=5,
            health_check_interval=30,
        )
        pause = FIRST_PAUSE
        own = asyncio.current_task()
        assert own is not None, "a coroutine runs in a task"
        try:
            # redis-py writes within `asyncio.wait_for`, which in Python 3.11 swallows a
            # cancellation that comes just then: the task still knows of it.
            while not own.cancelling():
                try:
                    await self._consume(client)
                except (RedisError, OSError) as error:
                    self._tell(error, pause)
                except Exception:  # the database is away, or a bug: the entry stays either way
                    logger.exception("stream %s: again in %.1f s", self.stream, pause)
                else:
                    pause = FIRST_PAUSE
                    continue
                self._position = HISTORY
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            await self._leave(client)

    async def _consume(self, client: Redis) -> None:
        """Join the group and read one round; the loop around it is the retry."""
        if self._position == HISTORY:
            await self._join(client)
        await self._claim(client)
        waiting = None if self._position == HISTORY else int(self.block * 1000)
        reply: Any = await client.xreadgroup(
            GROUP, self.name, {self.stream: self._position}, count=BATCH, block=waiting
        )
        entries = _entries(reply)
        await self._take(client, entries)
        if self._position == HISTORY and not entries:
            self._position = NEW

    async def _join(self, client: Redis) -> None:
        try:
            # From the beginning: what was added before the first worker started counts as well.
            await client.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        await self._forget(client, idle=FORGET_SECONDS)

    async def _claim(self, client: Redis) -> None:
        """Take over what dead consumers left, every `claim_idle` seconds."""
        now = time.monotonic()
        if self._claimed_at is not None and now - self._claimed_at < self.claim_idle:
            return
        start: Any = b"0-0"
        while True:
            reply: Any = await client.xautoclaim(
                self.stream,
                GROUP,
                self.name,
                min_idle_time=int(self.claim_idle * 1000),
                start_id=start,
                count=BATCH,
            )
            start, entries = reply[0], reply[1]
            await self._take(client, entries)
            if start == b"0-0":
                break
        self._claimed_at = now

    async def _take(self, client: Redis, entries: list[Entry]) -> None:
        for number, fields in entries:
            if fields:  # else somebody deleted the entry while it was pending
                await self.receive(_text(fields), f"stream:{self.stream}", number.decode())
            async with client.pipeline(transaction=True) as pipe:
                pipe.xack(self.stream, GROUP, number)
                # What is done leaves the stream: it would grow until Redis is full.
                pipe.xdel(self.stream, number)
                await pipe.execute()

    async def _forget(self, client: Redis, *, idle: float, name: str = "") -> None:
        arguments = (GROUP, str(int(idle * 1000)), name)
        await client.eval(FORGET, 1, self.stream, *arguments)

    async def _leave(self, client: Redis) -> None:
        """Take the own name out of the group, unless entries are pending under it."""
        try:
            await self._forget(client, idle=0, name=self.name)
        except (RedisError, OSError) as error:
            logger.info("consumer %s stays in its group: %s", self.name, error)
        finally:
            await client.aclose()

    def _tell(self, error: Exception, pause: float) -> None:
        if str(error).startswith(("NOGROUP", "UNBLOCKED")):
            logger.warning("stream %s lost its group: making it again", self.stream)
        else:
            logger.warning("stream %s: %s; again in %.1f s", self.stream, error, pause)


def _entries(reply: Any) -> list[Entry]:
    """The entries of one stream; redis-py answers with a list or a dict, by its version."""
    if isinstance(reply, dict):
        reply = list(reply.items())
    return [entry for _, entries in reply for entry in entries]


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    # Bytes that are no UTF-8 become `\\xff`, which no JSON and no workflow's name holds.
    return {
        name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for name, value in fields.items()
    }
