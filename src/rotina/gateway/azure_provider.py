"""OpenAI's models on Azure: OpenAI's protocol under Azure's addresses, with its header for the key.

With the option `api_version` the address is that of a dated API, where `model` names the Azure
deployment; without it that of the API which has no versions (`/openai/v1`).
"""

from collections.abc import Mapping

from yarl import URL

from rotina.errors import SettingsError
from rotina.gateway.failure import Endpoint
from rotina.gateway.http import Server, Sessions
from rotina.gateway.openai_wire import OpenAIWire
from rotina.gateway.providers import required_key, text_option
from rotina.settings import Deployment

OPTIONS: Mapping[str, type] = {"api_version": str}


def open_provider(name: str, deployment: Deployment, sessions: Sessions) -> OpenAIWire:
    """Raises `SettingsError` without a key or the resource's URL."""
    key = required_key(name, deployment, "AZURE_OPENAI_API_KEY")
    if deployment.base_url is None:
        raise SettingsError(
            f"deployments.{name} has no base_url: set that of your Azure resource, "
            "https://RESOURCE.openai.azure.com"
        )
    url = _address(
        URL(deployment.base_url.get_secret_value()),
        deployment.model,
        text_option(deployment, "api_version"),
    )
    endpoint = Endpoint(name, url, key, "AZURE_OPENAI_API_KEY")
    return OpenAIWire(Server(endpoint, sessions, key_header="api-key"), deployment)


def _address(resource: URL, model: str, version: str | None) -> URL:
    if version is None:
        return resource / "openai" / "v1"
    return (resource / "openai" / "deployments" / model).with_query({"api-version": version})
