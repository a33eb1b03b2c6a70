"""LangGraph's store: what agents remember from one run to the next.

In a run the store is `runtime.store`. What a node reads there is recorded, as is that it wrote: a
run that is resumed reads what it read before, a replay reads and writes nothing.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    get_text_at_path,
    tokenize_path,
)
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import KnowledgeError
from rotina.gateway.langchain import hand_over, run_on
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.filters import compile_filter
from rotina.knowledge.preparing import is_storable
from rotina.knowledge.vectors import halfvec, scale

LONGEST = 100 * 366 * 24 * 60
"""Minutes of the longest life that is not for ever: a century."""
BATCH = 5000
"""Expired values that are deleted at once."""

_Place = tuple[tuple[str, ...], str]


class RotinaStore(BaseStore):
    """Values of one tenant, in PostgreSQL; found by place, filter and meaning.

    Namespaces and keys are texts without NUL, values JSON objects. A search by meaning compares the
    question with the texts at `fields` (JSON paths; `$` is the whole value) of each value, by the
    gateway's `route`. Synchronous methods wait for the gateway's event loop.
    """

    supports_ttl = True

    def __init__(
        self,
        knowledge: KnowledgeBase,
        *,
        route: str | None = "embed",
        fields: Sequence[str] = ("$",),
        ttl: TTLConfig | None = None,
    ) -> None:
        """`knowledge` gives tenant, pool and gateway. `route` None: nothing is embedded.

        `ttl` is LangGraph's: `default_ttl` in minutes, `refresh_on_read`.
        """
        self._knowledge = knowledge
        self._route = route
        self._fields = [(path, _tokens(path)) for path in fields]
        self.ttl_config = ttl
        self._sql = load_queries("rotina.knowledge.memory")

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As `abatch`, waiting."""
        return run_on(self._knowledge.gateway, self._batch(list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """All in one transaction: first what is read, then what is written.

        Raises `KnowledgeError` for what cannot be stored, `FilterError`, or a `ModelError` when a
        text cannot be embedded; then nothing is written.
        """
        given = list(ops)
        recorder = self._knowledge.gateway.recorder
        if recorder is None:
            return await hand_over(self._knowledge.gateway, self._batch(given))
        place = await recorder.recall("memory", {"ops": [_told(op) for op in given]})
        if place.answer is not None:
            return [_read(each) for each in json.loads(place.answer)]
        results = await self._batch(given)
        place.add(json.dumps([_written(each) for each in results]).encode())
        return results

    async def _batch(self, ops: list[Op]) -> list[Result]:
        # Of several writes to one place the last counts.
        puts = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        for put in puts.values():
            _check(put)
        vectors = await self._embed(puts)
        questions = await self._questions(ops)
        results: list[Result] = [None] * len(ops)
        async with tenant_scope(self._knowledge.pool, self._knowledge.tenant) as connection:
            await self._get(connection, ops, results)
            for number, op in enumerate(ops):
                if isinstance(op, SearchOp):
                    results[number] = await self._search(connection, op, questions)
                elif isinstance(op, ListNamespacesOp):
                    results[number] = await self._namespaces(connection, op)
            for place in sorted(puts):
                await self._put(connection, puts[place], vectors.get(place, []))
        return results

    async def _embed(self, puts: dict[_Place, PutOp]) -> dict[_Place, list[dict[str, Any]]]:
        """Parameters of each text's vector, by place."""
        if self._route is None:
            return {}
        texts = [
            (place, path, text)
            for place, op in puts.items()
            if op.value is not None and op.index is not False
            for path, text in self._texts(op)
        ]
        if not texts:
            return {}
        # Values go when they are deleted or expire, and nobody would look for them in a cache.
        answer = await self._knowledge.gateway.unrecorded().embed(
            [text for _, _, text in texts], route=self._route, cache=False
        )
        matrix = await asyncio.to_thread(scale, answer.vectors)
        found: dict[_Place, list[dict[str, Any]]] = {}
        for (place, path, _), row in zip(texts, matrix, strict=True):
            vector = {"path": path, "model": answer.model, "dimension": row.size}
            found.setdefault(place, []).append({**vector, "embedding": halfvec(row)})
        return found

    def _texts(self, op: PutOp) -> list[tuple[str, str]]:
        wanted = self._fields
        if op.index:
            wanted = [(path, _tokens(path)) for path in op.index]
        found = []
        for path, tokens in wanted:
            texts = [text for text in get_text_at_path(op.value, tokens) if text.strip()]
            found += [(f"{path}.{number}", text) for number, text in enumerate(texts)]
        return found

    async def _questions(self, ops: list[Op]) -> dict[str, dict[str, Any]]:
        """Parameters of each question's vector."""
        asked = {op.query for op in ops if isinstance(op, SearchOp) and op.query}
        if not asked or self._route is None:
            return {}
        questions = sorted(asked)
        answer = await self._knowledge.gateway.unrecorded().embed(questions, route=self._route)
        matrix = scale(answer.vectors)
        shared = {"model": answer.model, "dimension": matrix.shape[1]}
        return {
            question: {**shared, "vector": halfvec(row)}
            for question, row in zip(questions, matrix, strict=True)
        }

    async def _get(
        self, connection: AsyncConnection[DictRow], ops: list[Op], results: list[Result]
    ) -> None:
        asked = [(number, op) for number, op in enumerate(ops) if isinstance(op, GetOp)]
        if not asked:
            return
        values = {
            "namespaces": [Jsonb(list(op.namespace)) for _, op in asked],
            "keys": [op.key for _, op in asked],
            "refresh": [op.refresh_ttl for _, op in asked],
        }
        for row in await self._run(connection, "get_items", values):
            number, _ = asked[row.pop("n")]
            results[number] = Item(**_placed(row))

    async def _search(
        self,
        connection: AsyncConnection[DictRow],
        op: SearchOp,
        questions: dict[str, dict[str, Any]],
    ) -> list[SearchItem]:
        if min(op.limit, op.offset) < 0:
            raise KnowledgeError(
                f"limit is {op.limit} and offset {op.offset}: give numbers of 0 or more"
            )
        given = op.filter or {}
        listed = {key: value for key, value in given.items() if isinstance(value, list)}
        other = {key: value for key, value in given.items() if key not in listed}
        nothing = {"model": None, "dimension": None, "vector": None}
        rows = await self._run(
            connection,
            "search_items",
            {
                "prefix": list(op.namespace_prefix),
                "depth": len(op.namespace_prefix),
                "filter": compile_filter(other),
                "equal": Jsonb(listed),
                "limit": op.limit,
                "offset": op.offset,
                **questions.get(op.query or "", nothing),
            },
        )
        if op.refresh_ttl and rows:
            places = {
                "namespaces": [Jsonb(row["namespace"]) for row in rows],
                "keys": [row["key"] for row in rows],
            }
            await self._run(connection, "prolong", places)
        return [SearchItem(**_placed(row)) for row in rows]

    async def _namespaces(
        self, connection: AsyncConnection[DictRow], op: ListNamespacesOp
    ) -> list[tuple[str, ...]]:
        rows = await self._run(connection, "list_namespaces", {})
        found = [tuple(row["namespace"]) for row in rows]
        for condition in op.match_conditions or ():
            found = [each for each in found if _matches(each, condition)]
        if op.max_depth is not None:
            found = sorted({each[: op.max_depth] for each in found})
        return found[op.offset : op.offset + op.limit]

    async def _put(
        self, connection: AsyncConnection[DictRow], op: PutOp, vectors: list[dict[str, Any]]
    ) -> None:
        place = {"namespace": list(op.namespace), "key": op.key}
        if op.value is None:
            await self._run(connection, "delete_item", place)
            return
        own = {**place, "tenant": self._knowledge.tenant}
        value = {**own, "value": Jsonb(dict(op.value)), "ttl": op.ttl}
        await self._run(connection, "put_item", value)
        await self._run(connection, "delete_embeddings", place)
        for vector in vectors:
            await self._run(connection, "put_embedding", {**own, **vector})

    async def _run(
        self, connection: AsyncConnection[DictRow], name: str, values: dict[str, Any]
    ) -> list[DictRow]:
        cursor = await connection.execute(self._sql[name], values)
        return await cursor.fetchall() if cursor.description else []


async def sweep_memory(pool: Pool) -> int:
    """Delete what has expired, of all tenants; returns how many values."""
    sql, deleted, batch = load_queries("rotina.knowledge.memory")["sweep_memory"], 0, BATCH
    while batch == BATCH:
        async with pool.connection() as connection:
            batch = (await connection.execute(sql, {"limit": BATCH})).rowcount
        deleted += batch
    return deleted


def _tokens(path: str) -> list[str] | str:
    """A JSON path as LangGraph reads it; `$` is the whole value."""
    return path if path == "$" else tokenize_path(path)


def _check(op: PutOp) -> None:
    parts = [*op.namespace, op.key]
    if not op.namespace or not all(isinstance(part, str) and part for part in parts):
        raise KnowledgeError(
            f"{op.namespace!r} with key {op.key!r} is no place to remember at: namespaces are one "
            "or more texts, keys are texts, and none is empty"
        )
    if not is_storable([*parts, op.value]):
        raise KnowledgeError(
            f"The value at {op.namespace!r}, {op.key!r} is no JSON that PostgreSQL can store: use "
            "texts without NUL, numbers other than NaN, lists and objects"
        )
    if op.ttl is not None and not 0 < op.ttl <= LONGEST:
        raise KnowledgeError(
            f"A ttl of {op.ttl} minutes is none: give more than 0, at most {LONGEST}, or None"
        )


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :]
    return all(wanted in ("*", each) for wanted, each in zip(path, part, strict=True))


def _placed(row: DictRow) -> dict[str, Any]:
    return {**row, "namespace": tuple(row["namespace"])}


def _told(op: Op) -> dict[str, Any]:
    """An operation, as it is recorded."""
    return {"op": type(op).__name__, **op._asdict()}


def _written(result: Result) -> Any:
    """A result, as it is recorded."""
    if isinstance(result, list):
        return [each.dict() if isinstance(each, Item) else list(each) for each in result]
    return None if result is None else result.dict()


def _read(told: Any) -> Result:
    """A result that was recorded."""
    if isinstance(told, list):
        return [_item(each) if isinstance(each, dict) else tuple(each) for each in told]
    return None if told is None else _item(told)


def _item(told: dict[str, Any]) -> Any:
    moments = {name: datetime.fromisoformat(told[name]) for name in ("created_at", "updated_at")}
    made = {**told, **moments, "namespace": tuple(told["namespace"])}
    return SearchItem(**made) if "score" in told else Item(**made)
