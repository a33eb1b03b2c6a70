"""What Rotina asks of the broker: it must answer, and it must not throw messages away."""

from typing import Any

import redis

from rotina.errors import SettingsError

KEEPS_ALL = "noeviction"


def check_broker(redis_url: str, timeout: float = 5.0) -> dict[str, Any]:
    """Look at the Redis (or Valkey) at `redis_url`; returns its `INFO` as a dict.

    Raises `SettingsError` when it does not answer within `timeout` seconds, or when its
    `maxmemory-policy` would evict keys: an evicting broker accepts work and then loses it.
    """
    client = redis.Redis.from_url(redis_url, socket_timeout=timeout, socket_connect_timeout=timeout)
    try:
        # INFO rather than CONFIG GET, which hosted servers often forbid.
        info: dict[str, Any] = client.info()
    except redis.RedisError as error:
        raise SettingsError(
            f"Redis does not answer at REDIS_URL ({_reason(error)}): start it, correct REDIS_URL, "
            "or unset it and use the embedded one (`rotina up`)"
        ) from None
    finally:
        client.close()
    policy = info.get("maxmemory_policy", KEEPS_ALL)
    if policy != KEEPS_ALL:
        raise SettingsError(
            f"The Redis at REDIS_URL has maxmemory-policy {policy}, which throws queued work away "
            f"when memory is short: run `CONFIG SET maxmemory-policy {KEEPS_ALL}` and put "
            f"`maxmemory-policy {KEEPS_ALL}` into its configuration"
        )
    return info


def _reason(error: redis.RedisError) -> str:
    """What went wrong without the address, which may hold a password."""
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the password"
    if isinstance(error, redis.TimeoutError):
        return "timeout"
    if isinstance(error, redis.ConnectionError):
        return "connection refused or dropped"
    return type(error).__name__
