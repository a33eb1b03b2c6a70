"""Routing: which deployments of a route are asked, and in what order."""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rotina.errors import ContextTooLongError, ModelError, SettingsError
from rotina.gateway.answer import Message
from rotina.gateway.lane import Lane
from rotina.settings import Deployment, Route, Settings

log = logging.getLogger(__name__)

PREFIX = 2000
"""Characters of a prompt that say which deployment has seen its beginning before."""


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
    needed = settings.tenant_tags.get(tenant, settings.tenant_tags.get("*", frozenset()))
    names = settings.routes[route].deployments
    found = [name for name in names if needed <= settings.deployments[name].tags]
    if not found:
        raise SettingsError(
            f"Route {route!r} has no deployment that tenant {tenant!r} may use: tenant_tags asks "
            f"for {', '.join(sorted(needed))}. Give one of {', '.join(names)} these tags, or add "
            "one that has them"
        )
    return found


def ranked(route: Route, lanes: Sequence[Lane], prompt: Callable[[], str]) -> list[Lane]:
    """The lanes in the order in which they are asked: the well before the ailing, those with a
    free slot before the busy, and then by the route's strategy."""
    order = sorted(lanes, key=_key(route, prompt))
    return sorted(order, key=lambda lane: (lane.health.cooling, lane.slots.full))


def _key(route: Route, prompt: Callable[[], str]) -> Callable[[Lane], float]:
    if route.strategy == "weighted":
        # Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
        return lambda lane: -(random.random() ** (1 / route.weights.get(lane.name, 1.0)))  # noqa: S311 - who is asked first
    if route.strategy == "cheapest":
        return lambda lane: _price(lane.deployment)
    if route.strategy == "least_loaded":
        return lambda lane: lane.slots.busy / lane.slots.size
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

    def goes_on(self, lane: Lane, error: ModelError) -> bool:
        """Whether the next one is to be asked, now that `lane` has failed."""
        late = self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline
        if late or not error.elsewhere:
            return False
        if isinstance(error, ContextTooLongError):
            self.lanes = [
                each for each in self.lanes if each.deployment.context > lane.deployment.context
            ]
        if self.last:
            return False
        log.warning("route %s: %s; asking %s", lane.route, error, self.lanes[0])
        return True
