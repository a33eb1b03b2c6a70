"""Whether the server lives, and whether what it stands on answers. Both without a key."""

import asyncio
import logging
from typing import Literal

import psycopg
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import SettingsError
from rotina.settings import Settings
from rotina.worker.broker import check_broker

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

READY_SECONDS = 2.0

State = Literal["ok", "failed"]


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Each part that requests need; the log says what is wrong with one that failed."""

    status: State
    database: State
    redis: State


@router.get("/health")
async def health() -> Health:
    """The process lives."""
    return Health()


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(request: Request) -> JSONResponse:
    """Database and Redis answer. Without Redis runs are accepted, but start a little later."""
    settings: Settings = request.app.state.settings
    pool: Pool = request.app.state.client.pool
    database, redis = await asyncio.gather(_database(pool), _redis(settings))
    status: State = "ok" if database == redis == "ok" else "failed"
    found = Readiness(status=status, database=database, redis=redis)
    return JSONResponse(found.model_dump(), 200 if status == "ok" else 503)


async def _database(pool: Pool) -> State:
    try:
        async with asyncio.timeout(READY_SECONDS), pool.connection() as connection:
            await connection.execute("select")
    except (psycopg.Error, TimeoutError) as error:
        log.warning("not ready: the database: %s", type(error).__name__)
        return "failed"
    return "ok"


async def _redis(settings: Settings) -> State:
    try:
        await asyncio.to_thread(check_broker, settings.require_redis_url(), READY_SECONDS)
    except SettingsError as error:
        log.warning("not ready: %s", error)
        return "failed"
    return "ok"
