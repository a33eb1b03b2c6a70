"""Load: how busy a GPU server is, as its own `/metrics` page says."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

import aiohttp
from yarl import URL

from rotina.errors import ModelUnreachableError
from rotina.gateway.http import Sessions

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
LARGEST = 2_000_000
"""Bytes of a page that are read."""

Ask = Callable[[], Awaitable["Load | None"]]

WAITING = (
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
    "tgi_queue_size",
)
RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "tgi_batch_current_size",
)
CACHE = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",
)


@dataclass(frozen=True)
class Load:
    """Of one server."""

    waiting: float
    """Requests that it has not begun."""
    running: float
    cache: float
    """The share of its KV cache that is in use, 0 to 1."""

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Load":
        """From `dump`. Raises `ValueError` or `TypeError` for anything else."""
        return cls(**json.loads(text))


def read_load(page: str) -> Load | None:
    """From a page in Prometheus' text format; None where it says nothing of requests.

    The metrics are those of vLLM, SGLang, llama.cpp's server and TGI; samples that differ in their
    labels are added, shares of a cache averaged. Raises `ValueError` for what is no such page.
    """
    from prometheus_client.parser import (  # noqa: PLC0415 - few gateways have such servers
        text_string_to_metric_families,
    )

    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.value)
    waiting, running = _first(found, WAITING), _first(found, RUNNING)
    if waiting is None and running is None:
        return None
    cache = _first(found, CACHE) or [0.0]
    return Load(sum(waiting or []), sum(running or []), sum(cache) / len(cache))


async def ask_load(sessions: Sessions, url: str) -> Load | None:
    """What the page at `url` says; None, with a line in the log, where it says nothing.

    Raises `ModelUnreachableError` where nobody answers at all.
    """
    try:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        async with sessions.get(URL(url)).get(url, timeout=timeout) as response:
            response.raise_for_status()
            page = await response.content.read(LARGEST)
        load = read_load(page.decode(errors="replace"))
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise ModelUnreachableError(f"load_url: {type(error).__name__}") from None
    except (aiohttp.ClientError, ValueError) as error:
        log.debug("load_url tells nothing: %s", type(error).__name__)
        return None
    return load


async def poll(asks: Mapping[str, Ask]) -> dict[str, Load]:
    """What each of the servers says, by name; without those that say nothing."""
    found = await asyncio.gather(*(ask() for ask in asks.values()))
    return {name: load for name, load in zip(asks, found, strict=True) if load is not None}


def _first(found: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float] | None:
    return next((found[name] for name in names if name in found), None)
