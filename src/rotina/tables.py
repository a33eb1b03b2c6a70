"""The tables of the settings on models: which there are, who may ask them, what may be spent."""

import datetime as dt
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SecretStr,
    model_validator,
)

_BAD_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def _url(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            valid = parts.scheme in schemes and bool(parts.hostname or parts.path.strip("/"))
            _ = parts.port
            valid = valid and not _BAD_PERCENT.search(value.get_secret_value())
        except ValueError:
            valid = False
        if not valid:
            forms = " or ".join(f"{scheme}://…" for scheme in schemes)
            raise ValueError(
                f"is not a URL of the form {forms}; a % in a password is written as %25"
            )
        return value

    return AfterValidator(check)


DatabaseUrl = Annotated[SecretStr, _url("postgresql", "postgres")]
RedisUrl = Annotated[SecretStr, _url("redis", "rediss", "unix")]
ModelUrl = Annotated[SecretStr, _url("http", "https")]


VECTOR_SECONDS = 7 * 24 * 3600
"""How long the standard route `embed` gives a vector again."""

Capability = Literal[
    "tools", "json_schema", "logprobs", "vision", "embeddings", "rerank", "reasoning",
]  # fmt: skip
Strategy = Literal["ordered", "weighted", "cheapest", "least_loaded", "prefix"]


class Price(BaseModel):
    """What a deployment charges, in US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    date: dt.date | None = None
    """When it was read at the provider; `rotina doctor` warns when that is a year ago."""
    cached_input: float | None = Field(default=None, ge=0)
    """Tokens of the prompt that the provider read from its cache; None: as `input`."""
    cache_write: float | None = Field(default=None, ge=0)
    """Tokens of the prompt that it wrote to its cache; None: as `input`."""


class Deployment(BaseModel):
    """One way to reach a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["openai", "anthropic", "azure", "bedrock", "google", "ollama"] = "openai"
    """The protocol: `openai` is spoken by OpenAI, vLLM, SGLang, llama.cpp, TGI, Ollama, …"""
    model: str = Field(min_length=1)
    base_url: ModelUrl | None = None
    api_key: SecretStr | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; preferred over `api_key`."""
    structured_output: Literal["json_schema", "tool", "grammar", "prompt"] = "json_schema"
    """How a schema is asked for: as `response_format` (`json_schema`), as a tool that must be
    called (`tool`), as vLLM's `structured_outputs` (`grammar`), or only in words (`prompt`)."""
    context: int = Field(default=8192, ge=64)
    """Tokens that prompt and answer may fill together."""
    tokenizer: str | None = None
    """A vocabulary of OpenAI's (`o200k_base`, …) or the path of the model's `tokenizer.json`."""
    capabilities: frozenset[Capability] | None = None
    """What the model can do; None: unknown, nothing is refused."""
    concurrency: int = Field(default=64, ge=1)
    """Calls under way at once from one process."""
    timeout: float = Field(default=300.0, gt=0)
    """Seconds for one call, from connecting to the last byte."""
    batch_texts: int = Field(default=32, ge=1)
    """Texts to embed in one request; every known server takes 32."""
    batch_chars: int | None = Field(default=None, ge=1)
    """Characters of these together; None: no limit. A longer text is asked for alone."""
    idle_timeout: float = Field(default=60.0, gt=0)
    """Seconds between two pieces of a stream, once the first has come."""
    rpm: int | None = Field(default=None, ge=1)
    """Requests a minute of all processes together; None: no limit."""
    tpm: int | None = Field(default=None, ge=1)
    """Tokens a minute, of prompts and answers, likewise."""
    parallel: int | None = Field(default=None, ge=1)
    """Calls at once, likewise."""
    load_url: ModelUrl | None = None
    """The server's page of metrics (`http://…/metrics`), which says how busy it is."""
    gpu_share: float | None = Field(default=None, ge=0)
    """GPU-seconds that a second of one call takes: the server's GPUs, divided by the calls that it
    serves at once. None: it is no GPU server of yours."""
    tags: frozenset[str] = frozenset()
    """What may be asked of a deployment: `gpu`, `eu`, …; see `tenant_tags`."""
    price: Price | None = None
    """`None` means unknown, which the ledger records as unknown, never as zero."""
    prompt_cache: bool = False
    """Ask the provider to keep the beginning of prompts, where that has to be asked for."""
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What only this provider knows (`api_version`, `region`, …); others are refused."""

    @model_validator(mode="before")
    @classmethod
    def _one_word_on_schemas(cls, given: Any) -> Any:
        """`structured_output` is what counts; capabilities that are given decide its default."""
        if not isinstance(given, Mapping) or given.get("capabilities") is None:
            return given
        able = "json_schema" in given["capabilities"]
        chosen = given.get("structured_output", "json_schema" if able else "prompt")
        if not able and chosen == "json_schema":
            raise ValueError(
                'structured_output = "json_schema" needs "json_schema" among the capabilities'
            )
        return {**given, "structured_output": chosen}

    @model_validator(mode="after")
    def _key_is_present(self) -> Self:
        if self.api_key is None and self.api_key_env and self.api_key_env not in os.environ:
            raise ValueError(f"api_key_env names {self.api_key_env}, which is not set: export it")
        return self

    def secret(self) -> str | None:
        """The API key in clear, for the wire only."""
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        return os.environ.get(self.api_key_env) if self.api_key_env else None


class SimilarCache(BaseModel):
    """The cache by meaning of a route."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: int = Field(ge=1)
    """How long an answer is given again."""
    similarity: float = Field(default=0.97, gt=0, le=1)
    """The least cosine between two questions."""
    route: str = "embed"
    """Who embeds the questions."""


Entity = Literal[
    "email", "iban", "card", "ip", "ssn", "phone", "cpf", "cnpj", "cep", "pis",
]  # fmt: skip
Side = Literal["input", "output"]


class GuardTable(BaseModel):
    """What is to be kept from models, or from those who ask them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pii", "secrets", "size"]
    on: frozenset[Side] = Field(default=frozenset({"input", "output"}), min_length=1)
    """Whether it looks at what is sent, at what comes back, or at both."""
    action: Literal["redact", "restore", "refuse"] = "redact"
    """`redact` replaces what is found; `restore` does, and puts it back into the answer;
    `refuse` fails the call."""
    entities: frozenset[Entity] | None = Field(default=None, min_length=1)
    """For `pii`: what is looked for; None: everything."""
    language: Literal["en", "pt"] | None = None
    """For `pii`: whose phone numbers are written without a country code; None: both."""
    max_chars: int | None = Field(default=None, ge=1)
    """For `size`: characters of all texts of a request, or of an answer."""
    max_messages: int | None = Field(default=None, ge=1)
    """For `size`: messages of a request."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        size = self.max_chars is not None or self.max_messages is not None
        if size != (self.kind == "size"):
            raise ValueError('max_chars or max_messages belong to kind = "size", which needs one')
        if self.kind != "pii" and (self.entities is not None or self.language is not None):
            raise ValueError('entities and language are for kind = "pii"')
        if self.kind == "size" and "action" in self.model_fields_set and self.action != "refuse":
            raise ValueError('a guard of kind "size" can only refuse: leave action out')
        if self.action == "restore" and (self.kind != "pii" or len(self.on) == 1):
            raise ValueError(
                'action = "restore" is for kind = "pii", on input and output: what is put back '
                "has to be taken out before"
            )
        return self


class Route(BaseModel):
    """What callers ask for, and the deployments that serve it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deployments: list[str] = Field(min_length=1)
    """When one fails, the next is asked."""
    strategy: Strategy = "ordered"
    """Which is asked first: the first that is named (`ordered`), any by its weight (`weighted`),
    the one with the lowest price (`cheapest`), the one with the most free slots
    (`least_loaded`), or for the same beginning of a prompt the same one (`prefix`)."""
    weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """For `weighted`: how often each is first, in relation to the others; 1 where none is given."""
    cache_seconds: int | None = Field(default=None, ge=1)
    """How long an answer at temperature 0, or a vector, is given again to the same question, or
    text, of its tenant."""
    similar: SimilarCache | None = None
    """Give an answer at temperature 0 again to a question of its tenant that means the same."""
    repairs: int = Field(default=1, ge=0, le=5)
    """How often a deployment is told what is wrong with its answer to a schema, and asked again."""
    min_confidence: float | None = Field(default=None, gt=0, le=1)
    """The next deployment is asked where an answer's confidence is less (logprobs)."""
    judge: str | None = None
    """The route that judges answers; the next deployment is asked where it finds one bad."""
    hedge: Literal["p95"] | PositiveFloat | None = None
    """Seconds after which the next deployment is asked as well, or how long 19 of 20 calls take."""
    continue_streams: bool = False
    """Whether the next deployment goes on with a streamed text that has broken off."""
    mirror: str | None = None
    """The deployment that is asked a share of the questions too, for comparison."""
    mirror_share: float = Field(default=1.0, gt=0, le=1)
    guards: list[str] = Field(default_factory=list)
    """What looks at requests, in this order, and at answers, in the reverse."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.deployments)) < len(self.deployments):
            raise ValueError(f"deployments names one twice: {', '.join(self.deployments)}")
        if self.weights and self.strategy != "weighted":
            raise ValueError(f'weights are for strategy = "weighted", not {self.strategy!r}')
        strangers = sorted(set(self.weights) - set(self.deployments))
        if strangers:
            raise ValueError(f"weights names {strangers[0]!r}, which is not in deployments")
        return self


class Budget(BaseModel):
    """What may be spent on models, by whom, in what time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str | None = None
    """Calls of this tenant; `"*"`: each tenant has the whole budget; None: of all together."""
    workflow: str | None = None
    """Calls of runs of this workflow; `"*"` and None as above."""
    key: str | None = None
    """Calls over HTTP with the API key of this name; `"*"` and None as above."""
    period: Literal["run", "day", "month", "total"] = "month"
    """`run`: each run has the whole budget; days and months are those of UTC."""
    usd: Decimal | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    gpu_seconds: int | None = Field(default=None, ge=0)
    """Of deployments with a `gpu_share`."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.tokens is None and self.gpu_seconds is None:
            raise ValueError("limits nothing: give it usd, tokens or gpu_seconds")
        return self
