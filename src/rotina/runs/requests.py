"""An HTTP request as an effect: sent with `Idempotency-Key`, its answer kept as the receipt."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import aiohttp

from rotina.errors import EffectNotDoneError, ReceiverDownError
from rotina.runs.effects import Act, Receipt

MAX_BODY = 100_000
"""Characters of an answer that are kept."""
NOT_NOW = frozenset({429, 503})


def http_request(
    method: str,
    url: str,
    *,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Act:
    """An `act` for `Effects.call`: the request, with the effect's key as `Idempotency-Key`.

    The receipt is `{"status", "body"}` of a 2xx answer. Raises `ReceiverDownError` when nobody was
    reached or the answer is 429 or 503, and `EffectNotDoneError` for any other 4xx: then nothing
    was done. Any other answer, and none within `timeout` seconds, leaves the outcome unknown. Say
    `repeatable=True` to `call` only where the receiver honours the key.
    """

    async def act(key: UUID) -> Receipt:
        sent = {"Idempotency-Key": str(key), **(headers or {})}
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.request(method, url, json=json, headers=sent) as response,
            ):
                body = (await response.text(errors="replace"))[:MAX_BODY]
        except aiohttp.ClientConnectorError as error:
            raise ReceiverDownError(f"{method} {url}: nobody was reached ({error})") from None
        _check(method, url, response.status, body)
        return {"status": response.status, "body": body.replace("\x00", "")}

    return act


def _check(method: str, url: str, status: int, body: str) -> None:
    told = f"{method} {url} was answered {status}: {body[:300]}"
    if status in NOT_NOW:
        raise ReceiverDownError(told)
    if 400 <= status < 500:  # noqa: PLR2004
        raise EffectNotDoneError(told)
    if not 200 <= status < 300:  # noqa: PLR2004
        raise OSError(told)
