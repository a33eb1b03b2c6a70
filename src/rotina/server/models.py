"""Which names `model` may be: routes and the deployments' own models."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from rotina.server.access import PROTECTION
from rotina.server.completion_forms import openai_problems
from rotina.server.errors import ModelNotFoundError
from rotina.settings import Route, Settings

router = APIRouter(prefix="/v1/models", tags=["gateway"], dependencies=PROTECTION)


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


def with_model_routes(settings: Settings) -> Settings:
    """The settings with a route for each deployment's model, under the model's own name.

    A route that is declared wins over a model of the same name, and of two deployments of one
    model the first one is asked.
    """
    own: dict[str, Route] = {}
    for name, deployment in settings.deployments.items():
        own.setdefault(deployment.model, Route(deployments=[name]))
    return settings.model_copy(update={"routes": {**own, **settings.routes}})


def check_model(settings: Settings, model: str) -> None:
    """Raises `ModelNotFoundError`. `settings` are those with model routes."""
    if model not in settings.routes:
        known = ", ".join(sorted(settings.routes)) or "none is configured"
        raise ModelNotFoundError(f"There is no model {model!r}. Known: {known}")


@router.get("", responses=openai_problems())
async def list_models(request: Request) -> ModelList:
    """Routes and models that `model` may name."""
    settings: Settings = request.app.state.settings
    return ModelList(data=[_model(settings, name) for name in sorted(settings.routes)])


@router.get("/{model:path}", responses=openai_problems(404))
async def get_model(model: str, request: Request) -> Model:
    """One of them."""
    settings: Settings = request.app.state.settings
    check_model(settings, model)
    return _model(settings, model)


def _model(settings: Settings, name: str) -> Model:
    own = name in {deployment.model for deployment in settings.deployments.values()}
    return Model(id=name, owned_by="deployment" if own else "route")
