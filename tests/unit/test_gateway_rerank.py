"""Reranking: what is sent, what counts as an answer, who is asked next, what is recorded."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from rotina.errors import (
    ContextTooLongError,
    GuardError,
    ModelCapabilityError,
    ModelError,
    ModelMissingError,
    ModelOutputError,
    ModelRequestError,
    ModelTimeoutError,
    SettingsError,
)
from rotina.gateway import Gateway, MemoryLedger, RankedDocument, Reranking, RetryPolicy
from rotina.gateway.budget import Payer, claims_of
from rotina.gateway.reranking import need_of
from rotina.settings import Budget, Deployment, GuardTable, Price, Route, Settings
from tests.scripted_model import (
    Behaviour,
    Request,
    ScriptedModel,
    drop,
    hang,
    raw,
    scores,
    status,
)

FAST = RetryPolicy(attempts=2, base=0.001, cap=0.002)
QUERY = "refund of a delivery"
DOCUMENTS = ["Opening hours.", "A refund is paid.", "A refund of a delivery is paid."]


@dataclass
class Stage:
    """Two servers behind the route `rank`, and the ledger of whatever asks them."""

    first: ScriptedModel
    second: ScriptedModel
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def gateway(
        self,
        one: Mapping[str, Any] | None = None,
        two: Mapping[str, Any] | None = None,
        route: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Gateway:
        """`one` and `two` are fields of the deployments."""
        deployments = {
            name: Deployment(**{"model": name, "base_url": SecretStr(url), **(fields or {})})
            for name, url, fields in (
                ("one", self.first.base_url, one),
                ("two", self.second.base_url, two),
            )
        }
        routes = {"rank": Route(deployments=["one", "two"], **(route or {}))}
        made = Settings(deployments=deployments, routes=routes, **settings)
        return Gateway(made, self.ledger, retry=FAST)

    async def rerank(self, documents: list[str] = DOCUMENTS, **options: Any) -> Reranking:
        """With a gateway of two plain deployments."""
        async with self.gateway() as gateway:
            return await gateway.rerank(QUERY, documents, route="rank", **options)

    def rows(self) -> list[tuple[str, str, str, int]]:
        """Kind, deployment, outcome and tries of each row of the ledger."""
        return [(row.kind, row.deployment, row.outcome, row.attempts) for row in self.ledger.calls]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with ScriptedModel() as first, ScriptedModel() as second:
        yield Stage(first, second)


def order(found: Reranking) -> list[int]:
    return [each.index for each in found.results]


def reply(*pairs: tuple[Any, Any], usage: Any = None, name: str = "results") -> Behaviour:
    """A reply with these places and scores, whatever was asked."""
    results = [{"index": index, "relevance_score": score} for index, score in pairs]
    return raw(json.dumps({name: results, "usage": usage}).encode())


GOOD = ((2, 0.9), (1, 0.5), (0, 0.1))


async def test_documents_come_in_the_order_of_their_relevance(stage: Stage) -> None:
    found = await stage.rerank()
    assert [(each.index, each.score) for each in found.results] == [(2, 1.0), (1, 0.5), (0, 0.0)]
    (request,) = stage.first.requests
    assert request.path == "/v1/rerank"
    assert request.body == {"model": "one", "query": QUERY, "documents": DOCUMENTS}
    assert (found.model, found.deployment, found.route) == ("scripted", "one", "rank")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (25, 0)
    assert stage.rows() == [("rerank", "one", "ok", 1)]
    assert found.call_id == stage.ledger.calls[0].id
    assert Reranking.model_validate_json(found.model_dump_json()) == found


async def test_only_the_best_are_given(stage: Stage) -> None:
    found = await stage.rerank(top_n=1)
    assert found.results == [RankedDocument(index=2, score=1.0)]
    assert "top_n" not in stage.first.requests[0].body, "every document has to have a score"
    assert order(await stage.rerank(top_n=9)) == [2, 1, 0]
    with pytest.raises(ModelRequestError, match="top_n is 0"):
        await stage.rerank(top_n=0)


async def test_equal_scores_leave_the_order(stage: Stage) -> None:
    stage.first.script = reply((2, 0.5), (0, 0.5), (1, 0.5))
    assert order(await stage.rerank()) == [0, 1, 2]


async def test_no_document_is_no_request(stage: Stage) -> None:
    assert (await stage.rerank([])).results == []
    assert stage.first.requests == []


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7}, 7),
        ({"prompt_tokens": 7}, 7),
        ({"prompt_tokens": 0, "total_tokens": 7}, 7),
        ({"prompt_tokens": 0, "total_tokens": 0}, None),
        (None, None),
    ],
)
async def test_tokens_in_the_words_of_each_server(
    stage: Stage, usage: Any, tokens: int | None
) -> None:
    stage.first.script = reply(*GOOD, usage=usage)
    async with stage.gateway({"price": Price(input=2, output=0)}) as gateway:
        found = await gateway.rerank(QUERY, DOCUMENTS, route="rank")
    assert found.usage.prompt_tokens == tokens
    assert found.cost_usd == (None if tokens is None else Decimal("0.000014"))


async def test_voyage_calls_its_results_data(stage: Stage) -> None:
    stage.first.script = reply(*GOOD, name="data", usage={"total_tokens": 7})
    assert order(await stage.rerank()) == [2, 1, 0]


async def test_logits_become_relevance(stage: Stage) -> None:
    stage.first.script = scores(-900.0, 900.0, 0.0)
    async with stage.gateway({"options": {"rerank_logits": True}}) as gateway:
        found = await gateway.rerank(QUERY, DOCUMENTS, route="rank")
        assert [(each.index, each.score) for each in found.results] == [(1, 1), (2, 0.5), (0, 0)]
        stage.first.script = scores(40.0, 60.0, 50.0)
        found = await gateway.rerank(QUERY, DOCUMENTS, route="rank")
    assert order(found) == [1, 2, 0], "also where the sigmoid has no more digits"
    stage.first.script = scores(-3.0, -1.0, 4.5)
    assert [each.score for each in (await stage.rerank()).results] == [4.5, -1.0, -3.0]


async def test_text_embeddings_inference(stage: Stage) -> None:
    documents = [f"number {n} {'refund' if n == 37 else ''}" for n in range(40)]
    async with stage.gateway({"options": {"rerank_tei": True}}) as gateway:
        found = await gateway.rerank("refund", documents, route="rank", top_n=1)
    assert found.results == [RankedDocument(index=37, score=1.0)]
    assert [request.path for request in stage.first.requests] == ["/rerank"] * 2
    assert [len(request.body["texts"]) for request in stage.first.requests] == [32, 8]
    assert set(stage.first.requests[0].body) == {"query", "texts"}
    assert (found.attempts, found.usage.prompt_tokens, found.model) == (2, 121, "one")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (reply((0, 0.1), (1, 0.5)), "2 scores, of 2 different documents, for 3"),
        (reply((0, 0.1), (1, 0.5), (1, 0.9)), "3 scores, of 2 different"),
        (reply(*GOOD, (0, 0.1)), "4 scores, of 3 different"),
        (reply((0, 0.1), (1, 0.5), (3, 0.9)), "document 3, and was given 3"),
        (reply((0, 0.1), (1, 0.5), (-1, 0.9)), "document -1"),
        (reply((0, 0.1), (1, 0.5), ("2", 0.9)), "document '2'"),
        (reply((True, 0.1), (0, 0.5), (2, 0.9)), "document True"),
        (reply((0, 0.1), (1, float("nan")), (2, 0.9)), "document 1 the score nan"),
        (reply((0, 0.1), (1, float("inf")), (2, 0.9)), "score inf"),
        (reply((0, 0.1), (1, 10**400), (2, 0.9)), "score 1000"),
        (reply((0, 0.1), (1, None), (2, 0.9)), "score None"),
        (reply((0, 0.1), (1, "0.5"), (2, 0.9)), "score '0.5'"),
        (raw(b'{"results": [{"index": 0}]}'), "has no list of scores"),
        (raw(b'{"results": null}'), "has no list of scores"),
        (raw(b"[]"), "is not a JSON object"),
        (raw(b"not JSON"), "is not JSON"),
    ],
)
async def test_bad_scores_are_no_answer(stage: Stage, bad: Behaviour, told: str) -> None:
    stage.first.script = bad
    found = await stage.rerank()
    assert (order(found), found.deployment) == ([2, 1, 0], "two")
    assert stage.rows() == [
        ("rerank", "one", "ModelOutputError", 1), ("rerank", "two", "ok", 1)
    ]  # fmt: skip
    stage.second.script = bad
    with pytest.raises(ModelOutputError, match=told):
        await stage.rerank()


@pytest.mark.parametrize("bad", [raw(b'{"results": []}'), raw(b"[[0, 1]]"), raw(b"7")])
async def test_bad_scores_of_text_embeddings_inference(stage: Stage, bad: Behaviour) -> None:
    stage.first.script = bad
    async with stage.gateway({"options": {"rerank_tei": True}}) as gateway:
        assert (await gateway.rerank(QUERY, DOCUMENTS, route="rank")).deployment == "two"


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (status(503), "ModelServerError"),
        (status(429), "ModelRateLimitedError"),
        (status(401), "ModelAuthError"),
        (status(404), "ModelMissingError"),
        (drop(), "ModelUnreachableError"),
    ],
)
async def test_the_next_deployment_answers(stage: Stage, failure: Behaviour, outcome: str) -> None:
    stage.first.script = failure
    assert (await stage.rerank()).deployment == "two"
    assert [row[2] for row in stage.rows()] == [outcome, "ok"]


async def test_the_last_is_tried_again(stage: Stage) -> None:
    stage.first.script = status(500)
    stage.second.script = [status(503), None]
    found = await stage.rerank()
    assert (found.deployment, found.attempts) == ("two", 2)


@pytest.mark.parametrize(
    "told",
    [
        # llama.cpp, text-embeddings-inference, vLLM.
        status(500, {"error": {"code": 500, "message": "input (908 tokens) is too large to "
            "process. increase the physical batch size", "type": "server_error"}}),
        status(413, {"error": "Input validation error: `inputs` must have less than 512 tokens. "
            "Given: 908", "error_type": "Validation"}),
        status(400, {"message": "This model's maximum context length is 512 tokens."}),
    ],
)  # fmt: skip
async def test_what_does_not_fit_goes_where_there_is_room(stage: Stage, told: Behaviour) -> None:
    stage.first.script = told
    async with stage.gateway({"context": 512}) as gateway:
        assert (await gateway.rerank(QUERY, DOCUMENTS, route="rank")).deployment == "two"
    assert [row[2] for row in stage.rows()] == ["ContextTooLongError", "ok"]
    async with stage.gateway({"context": 512}, {"context": 512}) as gateway:
        with pytest.raises(ContextTooLongError):
            await gateway.rerank(QUERY, DOCUMENTS, route="rank")


async def test_the_deadline_is_for_all(stage: Stage) -> None:
    stage.first.script = stage.second.script = hang()
    with pytest.raises(ModelTimeoutError, match=r"within 0\.1 s"):
        await stage.rerank(timeout=0.1)
    assert stage.second.requests == [], "no time was left"
    assert stage.rows() == [("rerank", "one", "ModelTimeoutError", 1)]


async def test_another_is_asked_within_the_deadline(stage: Stage) -> None:
    stage.first.script = hang()
    async with stage.gateway({"timeout": 0.1}) as gateway:
        found = await gateway.rerank(QUERY, DOCUMENTS, route="rank", timeout=30)
    assert found.deployment == "two"


async def test_who_is_declared(stage: Stage) -> None:
    no, yes = frozenset({"embeddings"}), frozenset({"rerank"})
    async with stage.gateway({"capabilities": no}) as gateway:
        assert not gateway.reranks("rank"), "the other may, which is not enough"
        assert (await gateway.rerank(QUERY, DOCUMENTS, route="rank")).deployment == "two"
    async with stage.gateway({"capabilities": no}, {"capabilities": no}) as gateway:
        with pytest.raises(ModelCapabilityError, match="needs rerank"):
            await gateway.rerank(QUERY, DOCUMENTS, route="rank")
    stage.second.script = status(503)
    async with stage.gateway(None, {"capabilities": yes}) as gateway:
        assert gateway.reranks("rank")
        with pytest.raises(ModelError):
            await gateway.rerank(QUERY, DOCUMENTS, route="rank")
        assert stage.first.requests == [], "a chat model beside a reranker is none"
        with pytest.raises(SettingsError, match="No route 'else'"):
            gateway.reranks("else")


async def test_other_providers_have_none(stage: Stage) -> None:
    fields = {"provider": "anthropic", "api_key": SecretStr("k")}
    async with stage.gateway(fields) as gateway:
        with pytest.raises(ModelRequestError, match="does not rerank"):
            await gateway.rerank(QUERY, DOCUMENTS, route="rank")


async def test_options_are_checked(stage: Stage) -> None:
    with pytest.raises(SettingsError, match="rerank_tei is 'yes'"):
        stage.gateway({"options": {"rerank_tei": "yes"}})


async def test_guards_see_query_and_documents(stage: Stage) -> None:
    secret = "sk-proj-" + "a1B2c3D4" * 6  # made up
    documents = [f"My key is {secret}.", "Nothing."]
    guards = {"keys": GuardTable(kind="secrets", on=frozenset({"input"}))}
    async with stage.gateway(route={"guards": ["keys"]}, guards=guards) as gateway:
        await gateway.rerank(f"{secret} leaked", documents, route="rank")
    sent = json.dumps(stage.first.requests[0].body)
    assert secret not in sent
    assert stage.first.requests[0].body["documents"][1] == "Nothing."
    guards = {"keys": GuardTable(kind="secrets", action="refuse")}
    async with stage.gateway(route={"guards": ["keys"]}, guards=guards) as gateway:
        with pytest.raises(GuardError):
            await gateway.rerank("a query", documents, route="rank")


async def test_a_missing_endpoint_is_told(stage: Stage) -> None:
    def no_rerank(request: Request) -> Behaviour:
        return status(404, {"detail": "Not Found"})

    stage.first.script = stage.second.script = no_rerank
    with pytest.raises(ModelMissingError, match="Not Found"):
        await stage.rerank()


class Memory:
    """A run's record that is nothing but the last answer."""

    answer: bytes | None = None

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def recall(self, kind: str, request: Mapping[str, Any]) -> "Memory":
        self.asked.append((kind, request))
        return self

    async def keep(self, answer: bytes) -> None:
        self.answer = answer

    def add(self, answer: bytes) -> None:
        raise NotImplementedError

    def fact(self, kind: str, request: Mapping[str, Any], tell: Any) -> int:
        raise NotImplementedError


async def test_a_record_answers_the_second_time(stage: Stage) -> None:
    memory = Memory()
    async with stage.gateway() as gateway:
        recorded = gateway.recorded(memory)
        first = await recorded.rerank(QUERY, DOCUMENTS, route="rank", top_n=2)
        assert await recorded.rerank(QUERY, DOCUMENTS, route="rank", top_n=2) == first
        assert len(stage.first.requests) == 1
        await recorded.rerank(QUERY, DOCUMENTS, route="rank", record=False)
    asked = {"route": "rank", "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    assert memory.asked == [("rerank", asked)] * 2
    assert len(stage.first.requests) == 2


def test_each_document_costs_the_query_again() -> None:
    deployment = Deployment(model="m", context=512, price=Price(input=1, output=0))
    need = need_of("q" * 100, ["d" * 10] * 50)
    assert need.tokens(deployment)[0] >= 50 * 110, "more than one context"
    assert need_of("q" * 100, ["d" * 5000] * 3).tokens(deployment) == (3 * 512, 0)
    budgets = {"all": Budget(tokens=1)}
    payer = Payer("t", None, None, None)
    (claim,) = claims_of(budgets, need, "it", deployment, payer, 1)
    assert claim["tokens"] == need.tokens(deployment)[0]
