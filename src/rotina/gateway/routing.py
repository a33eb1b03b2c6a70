"""Routing: which deployments of a route are asked, and in what order."""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from rotina.errors import ContextTooLongError, ModelCapabilityError, ModelError, SettingsError
from rotina.gateway.answer import ChatRequest, Message
from rotina.gateway.lane import Lane
from rotina.gateway.tokens import images_of
from rotina.settings import Capability, Deployment, Route, Settings

log = logging.getLogger(__name__)

PREFIX = 2000
"""Characters of a prompt that say which deployment has seen its beginning before."""


def with_model_routes(settings: Settings) -> Settings:
    """The settings with a route for each model, under the model's own name.

    A route that is declared wins over a model of the same name; a model with several deployments
    has them all, as they are declared.
    """
    own: dict[str, Route] = {}
    for name, deployment in settings.deployments.items():
        found = own[deployment.model].deployments if deployment.model in own else []
        own[deployment.model] = Route(deployments=[*found, name])
    return settings.model_copy(update={"routes": {**own, **settings.routes}})


def allowed(settings: Settings, route: str, tenant: str) -> list[str]:
    """The names of the deployments that serve the route for a tenant, as they are declared.

    Raises `SettingsError` for an unknown route, and where none has the tags of the tenant.
    """
    if route not in settings.routes:
        known = ", ".join(sorted(settings.routes))
        raise SettingsError(
            f"No route {route!r}. Known routes: {known}; add [tool.rotina.routes.{route}]"
            if known
            else f"No route {route!r}: no model is configured. Set OPENAI_BASE_URL and "
            "ROTINA_MODEL, or start the embedded model with `rotina up`"
        )
    names = settings.routes[route].deployments
    found = [name for name in names if may_use(settings, name, tenant)]
    if not found:
        needed = _tags(settings, tenant)
        raise SettingsError(
            f"Route {route!r} has no deployment that tenant {tenant!r} may use: tenant_tags asks "
            f"for {', '.join(sorted(needed))}. Give one of {', '.join(names)} these tags, or add "
            "one that has them"
        )
    return found


def may_use(settings: Settings, deployment: str, tenant: str) -> bool:
    """Whether a deployment has the tags that the tenant's calls need."""
    return _tags(settings, tenant) <= settings.deployments[deployment].tags


def _tags(settings: Settings, tenant: str) -> AbstractSet[str]:
    return settings.tenant_tags.get(tenant, settings.tenant_tags.get("*", frozenset()))


def able(
    settings: Settings, route: str, names: Sequence[str], needed: AbstractSet[Capability]
) -> list[str]:
    """Those of the deployments that are not declared unable to do what is needed.

    For reranking only those that are declared for it, where the route has some: a chat model beside
    them has no such endpoint, and would be taken for one that is missing.

    Raises `ModelCapabilityError` where none is left.
    """
    found = [name for name in names if not _missing(settings.deployments[name], needed)]
    if not found:
        wants = ", ".join(sorted(needed))
        raise ModelCapabilityError(
            f"The request needs {wants}, and no deployment of route {route!r} is declared to have "
            f"it ({', '.join(names)}): add it to their `capabilities` if they do, or ask another "
            "route. Nothing was sent"
        )
    return (rerankers(settings, found) or found) if "rerank" in needed else found


def rerankers(settings: Settings, names: Sequence[str]) -> list[str]:
    """Those of the deployments that are declared to rerank."""
    return [name for name in names if "rerank" in (settings.deployments[name].capabilities or ())]


def needs_of(request: ChatRequest) -> frozenset[Capability]:
    """What a deployment has to be able to do for a request.

    A schema is not among it: where the server cannot hold to one, it is asked for in words.
    """
    found: set[Capability] = set()
    if request.tools:
        found.add("tools")
    if any(images_of(message) for message in request.messages):
        found.add("vision")
    return frozenset(found)


def _missing(deployment: Deployment, wanted: AbstractSet[Capability]) -> AbstractSet[Capability]:
    declared = deployment.capabilities
    return frozenset() if declared is None else wanted - declared


def ranked(route: Route, lanes: Sequence[Lane], prompt: Callable[[], str]) -> list[Lane]:
    """The lanes in the order in which they are asked: the well before the ailing, those with a
    free slot and room in their limits before the busy, and then by the route's strategy."""
    order = sorted(lanes, key=_key(route, prompt))
    return sorted(order, key=lambda lane: (lane.health.cooling, lane.full))


def _key(route: Route, prompt: Callable[[], str]) -> Callable[[Lane], Any]:
    if route.strategy == "weighted":
        # Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
        return lambda lane: -(random.random() ** (1 / route.weights.get(lane.name, 1.0)))  # noqa: S311 - who is asked first
    if route.strategy == "cheapest":
        return lambda lane: _price(lane.deployment)
    if route.strategy == "least_loaded":
        return _busyness
    if route.strategy == "prefix":
        begins = prompt()
        return lambda lane: _affinity(lane.name, begins)
    return lambda lane: route.deployments.index(lane.name)


def beginning(messages: Sequence[Message]) -> str:
    """How a prompt begins: what a server may have in its cache of prefixes."""
    parts: list[str] = []
    for message in messages:
        parts.append(f"{message.get('role')}: {message.get('content')}")
        if sum(map(len, parts)) >= PREFIX:
            break
    return "\n".join(parts)[:PREFIX]


def _price(deployment: Deployment) -> float:
    assert deployment.price is not None, "the settings ask for it"
    return deployment.price.input + deployment.price.output


def _busyness(lane: Lane) -> tuple[float, float, float]:
    """Requests that its server has waiting; how full its KV cache is; what this process has there.

    A server that does not tell is taken for one without a queue.
    """
    own = lane.slots.busy / lane.slots.size
    if lane.load is None:
        return 0.0, own, own
    return lane.load.waiting, lane.load.cache, own


def _affinity(name: str, begins: str) -> float:
    """Rendezvous hashing: a deployment that comes or goes moves its own share of prompts only.

    (Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996.)
    """
    digest = hashlib.blake2b(f"{name}\0{begins}".encode(errors="replace"), digest_size=8)
    return int.from_bytes(digest.digest())


@dataclass
class Choice:
    """The deployments that one call may be answered by, until one has."""

    lanes: list[Lane]
    """Those that were not asked yet."""
    seconds: float | None
    """What the caller allows for everything."""
    deadline: float | None
    """The same as a time of the running loop."""

    @classmethod
    def of(cls, lanes: Sequence[Lane], timeout: float | None) -> "Choice":
        """A choice that begins now."""
        now = asyncio.get_running_loop().time()
        return cls(list(lanes), timeout, None if timeout is None else now + timeout)

    def take(self) -> Lane:
        """The next one to ask."""
        return self.lanes.pop(0)

    @property
    def last(self) -> bool:
        """Whether nothing is left after the one that was taken."""
        return not self.lanes

    @property
    def over(self) -> bool:
        """Whether nobody is left to ask, or no time."""
        late = self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline
        return late or self.last

    def goes_on(self, lane: Lane, error: ModelError) -> bool:
        """Whether the next one is to be asked, now that `lane` has failed."""
        if self.over or not error.elsewhere:
            return False
        if isinstance(error, ContextTooLongError):
            self.lanes = [
                each for each in self.lanes if each.deployment.context > lane.deployment.context
            ]
        if self.last:
            return False
        log.warning("route %s: %s; asking %s", lane.route, error, self.lanes[0])
        return True
