"""A scripted model whose embeddings mean something: texts that share words are near."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import SecretStr

from rotina.gateway import Gateway, RetryPolicy
from rotina.settings import Deployment, Route, Settings
from tests.scripted_model import Answer, Request, ScriptedModel, raw

DIMENSIONS = 96
TOPICS = {
    "refund": ("money back", "refund please", "return and refund", "quero reembolso", "devolver"),
    "late": ("where is it", "late delivery", "still waiting", "pedido atrasado", "onde está"),
    "login": ("forgot password", "cannot login", "account locked", "esqueci senha", "minha conta"),
}
PLACES = ("today", "hoje", "please", "sir", "now", "agora", "hello", "oi")


def examples() -> list[tuple[str, str]]:
    """Forty examples a label: each phrase in eight surroundings."""
    return [
        (f"{phrase} {place}", label)
        for label, phrases in TOPICS.items()
        for phrase in phrases
        for place in PLACES
    ]


def vector(text: str) -> list[float]:
    """Words hashed into a bag, of length 1."""
    bag = np.zeros(DIMENSIONS)
    for word in text.lower().replace("_", " ").split():
        bag[hashlib.sha256(word.encode()).digest()[0] % DIMENSIONS] += 1
    return [float(value) for value in bag / (np.linalg.norm(bag) or 1)]


def embedded(texts: list[str], model: str = "bag-of-words") -> Answer:
    """The answer of an embedding server."""
    data = [
        {"object": "embedding", "index": index, "embedding": vector(text)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    body = {"object": "list", "model": model, "data": data, "usage": usage}
    return raw(json.dumps(body).encode())


@dataclass
class Stage:
    """A model server and a gateway to it."""

    model: ScriptedModel
    gateway: Gateway
    chosen: str = "refund"
    """What the chat model answers."""

    def script(self, request: Request) -> Answer:
        """Embeddings by words; chat answers with `chosen`."""
        if request.path.endswith("/embeddings"):
            return embedded(request.body["input"])
        return {"label": self.chosen}

    def chats(self) -> list[Request]:
        """Chat requests so far."""
        return [one for one in self.model.requests if one.path.endswith("/chat/completions")]

    def texts_embedded(self) -> list[str]:
        """Texts embedded so far."""
        sent = [one for one in self.model.requests if one.path.endswith("/embeddings")]
        return [text for one in sent for text in one.body["input"]]


@asynccontextmanager
async def staged(**deployment: Any) -> AsyncIterator[Stage]:
    """A stage; the keyword arguments go to its deployment."""
    async with ScriptedModel() as model:
        one = Deployment(model="tiny", base_url=SecretStr(model.base_url), **deployment)
        routes = {name: Route(deployments=["one"]) for name in ("smart", "embed")}
        settings = Settings(deployments={"one": one}, routes=routes)
        async with Gateway(settings, retry=RetryPolicy(attempts=1)) as gateway:
            stage = Stage(model, gateway)
            model.script = stage.script
            yield stage
