"""`rotina doctor`: each part of the settings in effect, embedded or brought, and its remedy."""

import asyncio
import datetime as dt
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from rotina.embedded.check import Check, attempt
from rotina.embedded.doctor_database import examine_database
from rotina.embedded.lock import holder
from rotina.embedded.weights import cache_folder
from rotina.errors import ModelOutputError, SettingsError
from rotina.settings import Route, Settings
from rotina.worker.broker import check_broker

_FREE_BYTES = 2_000_000_000
_EMBED = "embed"
_STANDARD = ("fast", "smart", _EMBED)
_MODEL_SECONDS = 120.0
_PRICE_AGE = dt.timedelta(days=365)


def examine(settings: Settings) -> Iterator[Check]:
    """Look at each part of `settings` (as `load_settings()` gives them), one after the other."""
    yield _supervisor(settings)
    yield from examine_database(settings)
    yield attempt("redis", partial(_redis, settings))
    for route in dict.fromkeys((*_STANDARD, *settings.routes)):
        yield from _route(settings, route)
    yield from _old_prices(settings)
    yield _disk("disk", settings.data_path)
    yield _disk("model cache", cache_folder(settings.cache_dir))
    yield _permissions(settings.data_path)


def _supervisor(settings: Settings) -> Check:
    """Not running is fine when everything was brought; what is missing fails by itself."""
    found = holder(settings.data_path)
    if found is None:
        return Check("supervisor", "ok", f"none runs on {settings.data_path}")
    if not found.ready:
        return Check(
            "supervisor",
            "failed",
            f"process {found.pid} is still starting, or stopping",
            f"wait, or look into {settings.data_path / 'logs'}",
        )
    return Check("supervisor", "ok", f"process {found.pid} on {settings.data_path}")


def _redis(settings: Settings) -> str:
    information = check_broker(settings.require_redis_url())
    version = information.get("valkey_version") or information.get("redis_version")
    name = "Valkey" if "valkey_version" in information else "Redis"
    return f"{name} {version}, maxmemory-policy {information.get('maxmemory_policy')}"


def _route(settings: Settings, route: str) -> Iterator[Check]:
    """Each deployment of a route: one that answers must not hide one that does not."""
    if route not in settings.routes:
        yield attempt(f"route {route}", partial(_no_route, route))
        return
    names = settings.routes[route].deployments
    for name in names:
        title = f"route {route}" if len(names) == 1 else f"route {route}: {name}"
        yield attempt(title, partial(_deployment, settings, route, name))


def _no_route(route: str) -> str:
    raise SettingsError(
        f"No route {route!r}: start the embedded models with `rotina up`, set OPENAI_BASE_URL "
        f"and ROTINA_MODEL (for embeddings ROTINA_EMBEDDING_MODEL), or declare routes.{route}"
    )


def _deployment(settings: Settings, route: str, name: str) -> str:
    alone = {"routes": {route: Route(deployments=[name])}, "tenant_tags": {}, "budgets": {}}
    said = asyncio.run(_call(settings.model_copy(update=alone), route))
    return f"{settings.deployments[name].model} ({name}) {said}"


async def _call(settings: Settings, route: str) -> str:
    """The smallest call that a model can answer."""
    from rotina.gateway import Gateway  # noqa: PLC0415 - imports an HTTP client

    async with Gateway(settings) as gateway:
        if route == _EMBED:
            given = await gateway.embed(["ping"], route=route, timeout=_MODEL_SECONDS)
            return f"gives {len(given.vectors[0])} dimensions"
        if gateway.reranks(route):
            await gateway.rerank("ping", ["ping"], route=route, timeout=_MODEL_SECONDS)
            return "reranks"
        with suppress(ModelOutputError):  # one token is a truncated answer, but an answer
            await gateway.chat(
                [{"role": "user", "content": "Say ok."}],
                route=route,
                max_tokens=1,
                timeout=_MODEL_SECONDS,
            )
        return "answers"


def _old_prices(settings: Settings) -> Iterator[Check]:
    """Providers change their prices; a budget in money counts with those that are declared."""
    today = dt.datetime.now(tz=dt.UTC).date()
    for name, deployment in settings.deployments.items():
        read = deployment.price and deployment.price.date
        if read and today - read > _PRICE_AGE:
            yield Check(
                f"price of {name}",
                "warning",
                f"was read on {read}",
                f"look it up, and set deployments.{name}.price with its new date",
            )


def _disk(name: str, folder: Path) -> Check:
    place = next(step for step in (folder, *folder.parents) if step.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free for {folder}"
    if free < _FREE_BYTES:
        setting = "ROTINA_DATA_DIR" if name == "disk" else "ROTINA_CACHE_DIR"
        needed = f"free {_FREE_BYTES / 1e9:.0f} GB there, or set {setting} to another disk"
        return Check(name, "failed", detail, needed)
    return Check(name, "ok", detail)


def _permissions(data: Path) -> Check:
    """Files with secrets must be readable by their owner only."""
    if not data.exists():
        return Check("permissions", "ok", f"{data} does not exist yet")
    open_to_others = sorted(
        str(path)
        for pattern in ("services.json", "*/password", "*/api_key", "*/server.json", "*/*.conf")
        for path in data.glob(pattern)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )
    if open_to_others:
        listed = " ".join(open_to_others)
        detail = f"others may read {len(open_to_others)} files with secrets"
        return Check("permissions", "failed", detail, f"chmod 600 {listed}")
    return Check("permissions", "ok", f"secrets in {data} are readable by their owner only")
