"""API keys: `rtn_PREFIX_SECRET`, bound to a tenant; only the secret's hash is stored."""

import asyncio
import functools
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict, SecretStr

from rotina.database import Pool, load_queries
from rotina.errors import AccessError, DatabaseError, InvalidInputError
from rotina.server.errors import RevokedKeyError

SCHEME = "rtn"
PREFIX_BYTES, SECRET_BYTES = 6, 32
LONGEST_TOKEN = 200
LOOKUP_SECONDS = 5.0
"""A request waits this long for a database connection before it is told to come back."""
KNOWN_SECONDS = 3.0
"""A key that was good is not looked up again for so long, by each process."""
MOST_KNOWN = 10_000


class ApiKey(BaseModel):
    """A key as the database has it: without its secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prefix: str
    """What names the key; no secret."""
    name: str
    tenant: str
    created_at: datetime
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None


@dataclass(frozen=True)
class NewKey:
    """A key that was just made: the only moment its token is known."""

    key: ApiKey
    token: SecretStr
    """The whole `rtn_…`, as a caller sends it."""


class KeyStore:
    """The API keys of a deployment, of all tenants: it works as the tables' owner."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("rotina.server")
        self._known: dict[bytes, tuple[float, ApiKey]] = {}
        """By the digest of a token: until when a key counts as good."""
        self._looking: dict[bytes, asyncio.Task[ApiKey]] = {}

    async def create(self, name: str, tenant: str) -> NewKey:
        """Make a key for a tenant. Raises `InvalidInputError` for an empty name or tenant."""
        if not name.strip() or not tenant.strip():
            raise InvalidInputError("A key needs a name and a tenant: neither may be empty")
        prefix, secret = secrets.token_hex(PREFIX_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        values = {"prefix": prefix, "name": name, "tenant": tenant, "digest": _digest(secret)}
        [row] = await self._rows("insert_key", **values)
        return NewKey(ApiKey.model_validate(row), SecretStr(f"{SCHEME}_{prefix}_{secret}"))

    async def check(self, token: str) -> ApiKey:
        """The key that a caller's token proves.

        A good one is remembered for `KNOWN_SECONDS`, and asked for once however many requests
        wait. Raises `AccessError`, without saying which part of the token is wrong, and
        `RevokedKeyError`.
        """
        digest = _digest(token)
        until, known = self._known.get(digest, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        looking = self._looking.get(digest)
        if looking is None:
            looking = self._looking[digest] = asyncio.create_task(self._look_up(token, digest))
            looking.add_done_callback(functools.partial(self._looked, digest))
        # One request that gives up must not take the answer from the others.
        return await asyncio.shield(looking)

    def _looked(self, digest: bytes, looking: asyncio.Task[ApiKey]) -> None:
        self._looking.pop(digest, None)
        if not looking.cancelled():
            looking.exception()  # whoever still waits has it; nobody may

    async def _look_up(self, token: str, digest: bytes) -> ApiKey:
        self._known.pop(digest, None)
        began = time.monotonic()
        key = await self._find(token)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[digest] = (began + KNOWN_SECONDS, key)
        return key

    async def _find(self, token: str) -> ApiKey:
        prefix, secret = _split(token)
        rows = await self._rows("get_key", prefix=prefix)
        if not rows or not hmac.compare_digest(bytes(rows[0]["digest"]), _digest(secret)):
            raise AccessError(
                "The API key is unknown: copy it again, or make one with `rotina keys create`"
            )
        key = ApiKey.model_validate(rows[0])
        if key.revoked_at is not None:
            raise RevokedKeyError(
                f"The API key {key.name!r} was revoked at {key.revoked_at:%Y-%m-%d %H:%M:%S %Z}: "
                "make another with `rotina keys create`"
            )
        if rows[0]["unnoted"]:
            await self._note_use(prefix)
        return key

    async def list_keys(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        return [ApiKey.model_validate(row) for row in await self._rows("list_keys")]

    async def revoke(self, prefix: str) -> ApiKey:
        """Refuse the key; safe to repeat. Raises `AccessError`.

        This process refuses it from its next request on, others within `KNOWN_SECONDS`.
        """
        # Who copies the whole key names it, too.
        named = prefix.removeprefix(f"{SCHEME}_").partition("_")[0]
        rows = await self._rows("revoke_key", prefix=named)
        if not rows:
            raise AccessError(f"There is no API key {named!r}; `rotina keys list` shows them")
        self._known.clear()
        return ApiKey.model_validate(rows[0])

    async def count(self) -> int:
        """How many keys are valid. Raises `DatabaseError` when migrations are missing."""
        try:
            [row] = await self._rows("count_keys")
        except psycopg.errors.UndefinedTable:
            raise DatabaseError(
                "The database lacks the table rotina.api_key: run `rotina migrate`"
            ) from None
        return int(row["keys"])

    async def _note_use(self, prefix: str) -> None:
        async with self._pool.connection(timeout=LOOKUP_SECONDS) as connection:
            await connection.execute(self._sql["note_use"], {"prefix": prefix})

    async def _rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        async with self._pool.connection(timeout=LOOKUP_SECONDS) as connection:
            cursor = await connection.execute(self._sql[query], values)
            return await cursor.fetchall()


def _split(token: str) -> tuple[str, str]:
    """Prefix and secret; the secret may hold underscores itself."""
    scheme, _, rest = token.partition("_")
    prefix, _, secret = rest.partition("_")
    sound = token.isascii() and token.isprintable() and len(token) <= LONGEST_TOKEN
    if not sound or scheme != SCHEME or not prefix or not secret:
        raise AccessError(
            f"That is no API key of Rotina: they begin with {SCHEME}_; "
            "`rotina keys create` makes one"
        )
    return prefix, secret


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
