"""Which names `model` may be: routes and the deployments' own models."""

from typing import Literal

from pydantic import BaseModel

from rotina.server.errors import ModelNotFoundError
from rotina.server.gateway.exchange import Exchange
from rotina.settings import Settings


class Model(BaseModel):
    """Something `model` may name."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["route", "deployment"]
    """`route`: a name of this deployment's; `deployment`: a model's own name."""


class ModelList(BaseModel):
    """Everything `model` may name."""

    object: Literal["list"] = "list"
    data: list[Model]


def check_model(settings: Settings, model: str) -> None:
    """Raises `ModelNotFoundError`. `settings` are those with model routes."""
    if model not in settings.routes:
        known = ", ".join(sorted(settings.routes)) or "none is configured"
        raise ModelNotFoundError(f"There is no model {model!r}. Known: {known}")


async def list_models(exchange: Exchange) -> None:
    """Routes and models that `model` may name."""
    settings = exchange.face.settings
    found = ModelList(data=[_model(settings, name) for name in sorted(settings.routes)])
    await exchange.answer(found.model_dump())


async def get_model(exchange: Exchange, model: str) -> None:
    """One of them."""
    check_model(exchange.face.settings, model)
    await exchange.answer(_model(exchange.face.settings, model).model_dump())


def _model(settings: Settings, name: str) -> Model:
    own = name in {deployment.model for deployment in settings.deployments.values()}
    return Model(id=name, owned_by="deployment" if own else "route")
