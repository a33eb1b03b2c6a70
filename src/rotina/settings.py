"""Settings: `rotina.toml` or `[tool.rotina]` in pyproject.toml, `ROTINA_*`, and the field's
conventional variables (`DATABASE_URL`, `REDIS_URL`, `OPENAI_API_KEY`, `OPENAI_BASE_URL`).

An environment variable wins over a file, and both win over what a running `rotina up` offers
(`services.json` in the data directory). Nothing is read on import: call `load_settings()`.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import pydantic_settings
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rotina.errors import SettingsError

SERVICES_FILE = "services.json"
OPENAI_URL = "https://api.openai.com/v1"


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


Strategy = Literal["ordered", "weighted", "cheapest", "least_loaded", "prefix"]


class Price(BaseModel):
    """What a deployment charges, in US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Deployment(BaseModel):
    """One way to reach a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["openai", "anthropic"] = "openai"
    """The protocol: `openai` is spoken by OpenAI, vLLM, SGLang, llama.cpp, TGI, Ollama, …"""
    model: str = Field(min_length=1)
    base_url: ModelUrl | None = None
    api_key: SecretStr | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; preferred over `api_key`."""
    structured_output: Literal["json_schema", "prompt"] = "json_schema"
    """`json_schema`: the server constrains its output; `prompt`: the schema is only asked for."""
    context: int = Field(default=8192, ge=256)
    """Tokens that prompt and answer may fill together."""
    concurrency: int = Field(default=64, ge=1)
    """Calls under way at once from one process."""
    timeout: float = Field(default=300.0, gt=0)
    """Seconds for one call, from connecting to the last byte."""
    idle_timeout: float = Field(default=60.0, gt=0)
    """Seconds between two pieces of a stream, once the first has come."""
    tags: frozenset[str] = frozenset()
    """What may be asked of a deployment: `gpu`, `eu`, …; see `tenant_tags`."""
    price: Price | None = None
    """`None` means unknown, which the ledger records as unknown, never as zero."""

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
    """How long an answer at temperature 0 is given again to the same question of its tenant."""

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
    period: Literal["run", "day", "month", "total"] = "month"
    """`run`: each run has the whole budget; days and months are those of UTC."""
    usd: Decimal | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.tokens is None:
            raise ValueError("limits nothing: give it usd or tokens")
        return self


class Settings(BaseSettings):
    """The settings of one process; see docs/reference/settings.md."""

    model_config = SettingsConfigDict(
        env_prefix="ROTINA_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    data_dir: Path = Path(".rotina")
    """Where the embedded default keeps everything; relative to the project's folder."""
    cache_dir: Path | None = None
    """Where downloaded models are kept, shared by projects; default: the user's cache folder."""
    database_url: DatabaseUrl | None = None
    redis_url: RedisUrl | None = None
    openai_api_key: SecretStr | None = None
    openai_base_url: ModelUrl | None = None
    model: str | None = None
    """The chat model behind `OPENAI_BASE_URL` / `OPENAI_API_KEY`."""
    embedding_model: str | None = None
    """The embedding model behind the same endpoint; unset keeps embeddings embedded."""
    embedded_model: Literal["qwen2.5-1.5b", "qwen2.5-0.5b"] = "qwen2.5-1.5b"
    """The chat model that `rotina up` runs when no model URL is set."""
    deployments: dict[str, Deployment] = Field(default_factory=dict)
    routes: dict[str, Route] = Field(default_factory=dict)
    tenant_tags: dict[str, frozenset[str]] = Field(default_factory=dict)
    """Tags that a deployment must have to be asked for a tenant; `"*"` is every tenant that is not
    named."""
    budgets: dict[str, Budget] = Field(default_factory=dict)
    app: str = "workers.app"
    """The module with this deployment's Celery app."""
    workflows: list[str] = Field(default_factory=list)
    """Packages to import: each module in them may declare workflows."""
    migrations: list[Path] = Field(default_factory=list)
    """Folders with the project's own SQL migrations, applied after Rotina's."""
    streams: list[str] = Field(default_factory=lambda: ["rotina:start"])
    """Redis Streams whose entries start runs; io workers read them."""
    tenant: str = Field(default="default", min_length=1)
    io_concurrency: int = Field(default=200, ge=1)
    """Runs that one io worker process drives at once."""
    cpu_concurrency: int = Field(default=1, ge=1)
    """Processes of the cpu worker."""
    pool_size: int = Field(default=10, ge=2)
    """Database connections a process may hold."""
    lease_seconds: float = Field(default=6.0, gt=1)
    """A worker silent for this long has lost its runs."""
    stuck_seconds: float = Field(default=60.0, ge=1)
    """A worker that leaves messages waiting for this long, with free hands, starts again."""
    max_attempts: int = Field(default=5, ge=1)
    """Attempts before a run that keeps failing or killing its worker ends failed."""
    max_running: dict[str, PositiveInt] = Field(default_factory=dict)
    """Runs that a tenant may have under way at once; `"*"` is every tenant that is not named."""
    record_days: int = Field(default=30, ge=0)
    """How long what models and steps answered a run is kept; 0: until the run has ended."""
    max_file_bytes: int = Field(default=50_000_000, ge=1)
    max_pages: int = Field(default=200, ge=1)
    parse_seconds: float = Field(default=60.0, gt=0)
    parse_memory_mb: int = Field(default=1024, ge=128)

    project_dir: Path = Field(default_factory=Path.cwd, exclude=True)
    """The folder of the settings file; set by `load_settings`, not by hand."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        for name, route in self.routes.items():
            for deployment in route.deployments:
                if deployment not in self.deployments:
                    known = ", ".join(sorted(self.deployments)) or "none"
                    raise ValueError(
                        f"routes.{name} names the deployment {deployment!r}, which is not "
                        f"declared (declared: {known}); add [tool.rotina.deployments.{deployment}]"
                    )
                if route.strategy == "cheapest" and self.deployments[deployment].price is None:
                    raise ValueError(
                        f"routes.{name} asks the cheapest first, and the price of "
                        f"{deployment!r} is unknown: add price = {{ input = …, output = … }}"
                    )
        return self

    def redact(self, text: str) -> str:
        """`text` without any secret of these settings."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> set[str]:
        urls = [self.database_url, self.redis_url, self.openai_base_url]
        urls += [deployment.base_url for deployment in self.deployments.values()]
        parts = [urlsplit(url.get_secret_value()) for url in urls if url]
        passwords = [part.password for part in parts]
        # …?password=… and ?key=…: what a query holds may be a secret as well.
        passwords += [value for part in parts for _, value in parse_qsl(part.query)]
        keys = [deployment.secret() for deployment in self.deployments.values()]
        own = self.openai_api_key.get_secret_value() if self.openai_api_key else None
        return {unquote(s) for s in (*passwords, *keys, own) if s} | {s for s in passwords if s}

    @property
    def data_path(self) -> Path:
        """`data_dir` as an absolute path."""
        return (self.project_dir / self.data_dir).resolve()

    def require_database_url(self) -> str:
        """The database URL in clear, or `SettingsError`."""
        if self.database_url is None:
            raise SettingsError(
                "No database: set DATABASE_URL, or start the embedded one with `rotina up` "
                f"(looked for {self.data_path / SERVICES_FILE})."
            )
        return self.database_url.get_secret_value()

    def require_redis_url(self) -> str:
        """The Redis URL in clear, or `SettingsError`."""
        if self.redis_url is None:
            raise SettingsError(
                "No broker: set REDIS_URL, or start the embedded one with `rotina up` "
                f"(looked for {self.data_path / SERVICES_FILE})."
            )
        return self.redis_url.get_secret_value()


class Services(BaseModel):
    """What a running `rotina up` offers; written to `services.json`, readable by its owner only."""

    model_config = ConfigDict(extra="forbid")

    supervisor_pid: int
    database_url: str | None = None
    redis_url: str | None = None
    server_url: str | None = None
    """Where `rotina serve` listens; for people and programs, no setting."""
    deployments: dict[str, dict[str, Any]] = Field(default_factory=dict)
    routes: dict[str, dict[str, Any]] = Field(default_factory=dict)


CONVENTIONAL = {
    "DATABASE_URL": "database_url",
    "REDIS_URL": "redis_url",
    "OPENAI_API_KEY": "openai_api_key",
    "OPENAI_BASE_URL": "openai_base_url",
}


def load_settings(start: Path | None = None, *, services: bool = True) -> Settings:
    """Read the settings of the project that `start` (default: the working directory) lies in.

    `services=False` leaves out what a running `rotina up` offers: it is how `up` itself finds out
    which parts the user has brought.

    Raises `SettingsError` naming the key, its source and the remedy.
    """
    start = (start or Path.cwd()).resolve()
    path, table = _find_table(start)
    source = str(path) if path else "the environment"
    values = dict(table)
    _refuse_unknown(values, source)
    values |= _conventional(os.environ)
    _refuse_unknown_environment(os.environ)
    values["project_dir"] = path.parent if path else start
    settings = _build(values, source)
    if services:
        values = _with_services(values, settings)
    values = _with_openai(values, _build(values, source))
    return _build(values, source)


def _conventional(environment: Mapping[str, str]) -> dict[str, str]:
    """`DATABASE_URL` and its kind; `DATABASE_URL_FILE` names a file with the value (a secret)."""
    found = {}
    for variable, field in CONVENTIONAL.items():
        path = environment.get(f"{variable}_FILE")
        if environment.get(variable):
            found[field] = environment[variable]
        elif path:
            try:
                value = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"{variable}_FILE names {path}, which cannot be read: {type(error).__name__}"
                ) from None
            if value:  # an empty secret is one that is not used
                found[field] = value
    return found


def _build(values: Mapping[str, Any], source: str) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, source)) from None
    except pydantic_settings.exceptions.SettingsError as error:
        raise SettingsError(
            f"{error}: lists and tables in the environment are JSON, as in "
            """ROTINA_WORKFLOWS='["workflows"]'"""
        ) from None


def _find_table(start: Path) -> tuple[Path | None, dict[str, Any]]:
    for folder in (start, *start.parents):
        own, project = folder / "rotina.toml", folder / "pyproject.toml"
        if own.is_file():
            return own, _read_toml(own)
        if project.is_file():
            table = _read_toml(project).get("tool", {}).get("rotina")
            if table is not None:
                return project, table
    return None, {}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _with_services(values: dict[str, Any], settings: Settings) -> dict[str, Any]:
    path = settings.data_path / SERVICES_FILE
    try:
        offered = Services.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return values
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} cannot be read ({type(error).__name__}): stop and start `rotina up` again"
        ) from None
    merged = dict(values)
    for key in ("database_url", "redis_url"):
        if getattr(settings, key) is None and getattr(offered, key) is not None:
            merged[key] = getattr(offered, key)
    for key in ("deployments", "routes"):
        merged[key] = {**getattr(offered, key), **values.get(key, {})}
    return merged


def _with_openai(values: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Turn `OPENAI_*` into a deployment and the standard routes, unless the user declared them."""
    if settings.openai_base_url is None and settings.openai_api_key is None:
        return values
    declared = set(values.get("routes", {})) - set(_embedded_routes(settings))
    if settings.model is None:
        if {"fast", "smart"} <= declared:
            return values
        raise SettingsError(
            "OPENAI_BASE_URL or OPENAI_API_KEY is set, but no model is named: "
            "set ROTINA_MODEL (or `model` in rotina.toml) to a model that endpoint serves"
        )
    endpoint = {
        "base_url": settings.openai_base_url or OPENAI_URL,
        "api_key": settings.openai_api_key,
    }
    deployments = dict(values.get("deployments", {}))
    routes = dict(values.get("routes", {}))
    deployments["openai"] = {"model": settings.model, **endpoint}
    for name in {"fast", "smart"} - declared:
        routes[name] = {"deployments": ["openai"]}
    if settings.embedding_model is not None:
        deployments["openai-embed"] = {"model": settings.embedding_model, **endpoint}
        if "embed" not in declared:
            routes["embed"] = {"deployments": ["openai-embed"]}
    return {**values, "deployments": deployments, "routes": routes}


def _embedded_routes(settings: Settings) -> set[str]:
    return {
        name
        for name, route in settings.routes.items()
        if all(deployment.startswith("embedded") for deployment in route.deployments)
    }


def _refuse_unknown(table: Mapping[str, Any], source: str) -> None:
    known = set(Settings.model_fields) - {"project_dir"}
    for key in table:
        if key not in known:
            raise SettingsError(f"Unknown setting {key!r} in {source}.{_suggest(key, known)}")


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    known = {f"ROTINA_{name.upper()}" for name in Settings.model_fields if name != "project_dir"}
    for variable in environment:
        upper = variable.upper()
        if upper.startswith("ROTINA_") and upper.split("__")[0] not in known:
            raise SettingsError(
                f"Unknown setting {variable!r} in the environment.{_suggest(upper, known)}"
            )


def _suggest(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Settings are listed in docs/reference/settings.md."


def _explain(error: ValidationError, source: str) -> str:
    """One line a problem: the key and what is wrong, never the value, which may be a secret."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in problem["loc"])
        variable = next((name for name, field in CONVENTIONAL.items() if field == key), None)
        shown = f"{key} (or {variable})" if variable else key
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "is not a known key; see docs/reference/settings.md"
        lines.append(f"{shown}: {message}" if shown else message)
    return f"Invalid settings in {source}: " + "; ".join(lines)
