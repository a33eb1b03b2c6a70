"""Providers by name: a module each, opened when its first deployment is used."""

import importlib
import os
from collections.abc import Mapping
from typing import Protocol, cast

from rotina.errors import SettingsError
from rotina.gateway.http import Sessions
from rotina.gateway.provider import Provider
from rotina.settings import Deployment, Settings

Option = str | int | float | bool


class ProviderModule(Protocol):
    """What `rotina/gateway/NAME_provider.py` offers; importing it loads no extra."""

    OPTIONS: Mapping[str, type]
    """The `options` that a deployment may have, and their types."""

    def open_provider(self, name: str, deployment: Deployment, sessions: Sessions) -> Provider:
        """The provider of one deployment. Raises `SettingsError`."""


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> Provider:
    """The provider of one deployment.

    Raises `SettingsError` when something that it needs is missing: its extra, a key, a region.
    """
    try:
        return _module(deployment.provider).open_provider(name, deployment, sessions)
    except ImportError as error:
        raise SettingsError(
            f"deployments.{name}.provider is {deployment.provider!r}, whose client is not "
            f"installed ({error.name}): pip install 'rotina[{deployment.provider}]'"
        ) from None


def check_options(settings: Settings) -> None:
    """Raises `SettingsError` for an option that the deployment's provider does not know."""
    for name, deployment in settings.deployments.items():
        if deployment.options:
            known = _module(deployment.provider).OPTIONS
            for option, value in deployment.options.items():
                _check(f"deployments.{name}.options.{option}", option, value, known)


def required_key(name: str, deployment: Deployment, variable: str) -> str:
    """The key that is declared, or that of the provider's own variable. Raises `SettingsError`."""
    key = declared_key(deployment, variable)
    if not key:
        raise SettingsError(f"deployments.{name} has no key: set api_key_env, or export {variable}")
    return key


def declared_key(deployment: Deployment, variable: str) -> str | None:
    """The same, where a key may be missing."""
    return deployment.secret() or os.environ.get(variable)


def text_option(deployment: Deployment, name: str) -> str | None:
    """An option whose type was checked to be a text."""
    return cast("str | None", deployment.options.get(name))


def _module(provider: str) -> ProviderModule:
    module = "openai_wire" if provider == "openai" else f"{provider}_provider"
    return cast("ProviderModule", importlib.import_module(f"rotina.gateway.{module}"))


def _check(where: str, option: str, value: Option, known: Mapping[str, type]) -> None:
    if option not in known:
        names = ", ".join(sorted(known)) or "none"
        raise SettingsError(f"{where} is not an option of this provider (it has: {names})")
    if type(value) is not known[option]:
        raise SettingsError(f"{where} is {value!r}: give it a {known[option].__name__}")
