"""Settings: `rotina.toml` or `[tool.rotina]` in pyproject.toml, `ROTINA_*`, and the field's
conventional variables (`DATABASE_URL`, `REDIS_URL`, `OPENAI_API_KEY`, `OPENAI_BASE_URL`).

An environment variable wins over a file, and both win over what a running `rotina up` offers
(`services.json` in the data directory). Nothing is read on import: call `load_settings()`.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import pydantic_settings
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rotina.errors import SettingsError
from rotina.tables import (
    VECTOR_SECONDS,
    Budget,
    Capability,
    DatabaseUrl,
    Deployment,
    Entity,
    GuardTable,
    ModelUrl,
    Price,
    RedisUrl,
    Route,
    Side,
    SimilarCache,
    Strategy,
)

__all__ = [
    "CONVENTIONAL",
    "OPENAI_URL",
    "SERVICES_FILE",
    "VECTOR_SECONDS",
    "Budget",
    "Capability",
    "DatabaseUrl",
    "Deployment",
    "Entity",
    "GuardTable",
    "ModelUrl",
    "Price",
    "RedisUrl",
    "Route",
    "Services",
    "Settings",
    "Side",
    "SimilarCache",
    "Strategy",
    "check_table",
    "load_settings",
    "settings_file",
]

SERVICES_FILE = "services.json"
OPENAI_URL = "https://api.openai.com/v1"


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
    embedding_folder: Path | None = None
    """The folder of a sentence-transformers model in ONNX form that `rotina up` serves as `embed`;
    None: the embedded one. Relative to the project's folder."""
    deployments: dict[str, Deployment] = Field(default_factory=dict)
    routes: dict[str, Route] = Field(default_factory=dict)
    tenant_tags: dict[str, frozenset[str]] = Field(default_factory=dict)
    """Tags that a deployment must have to be asked for a tenant; `"*"` is every tenant that is not
    named."""
    budgets: dict[str, Budget] = Field(default_factory=dict)
    limits_without_redis: Literal["share", "closed"] = "share"
    """What `rpm`, `tpm` and `parallel` do when Redis is away: each process keeps to its part of
    them, or deployments that have them are not asked."""
    strict_holds: bool = False
    """Whether a hold in a budget is on disk before its call is made."""
    store_prompts: Literal["off", "redacted", "full"] = "off"
    """Whether the ledger keeps what was asked and answered."""
    store_prompts_days: int = Field(default=30, ge=0)
    """How long it is kept."""
    guards: dict[str, GuardTable] = Field(default_factory=dict)
    app: str = "workers.app"
    """The module with this deployment's Celery app."""
    workflows: list[str] = Field(default_factory=list)
    """Packages to import: each module in them may declare workflows."""
    prompts: Path = Path("prompts")
    """The folder of prompts; relative to the project's folder."""
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
    source_hosts: list[str] = Field(default_factory=list)
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
            strangers = [guard for guard in route.guards if guard not in self.guards]
            if strangers:
                raise ValueError(
                    f"routes.{name} names the guard {strangers[0]!r}, which is not declared: add "
                    f"[tool.rotina.guards.{strangers[0]}]"
                )
            if route.guards and route.similar is not None:
                raise ValueError(
                    f"routes.{name} has guards and `similar`: questions that differ only in what "
                    "a guard takes out would get each other's answers"
                )
            for deployment in [*route.deployments, *([route.mirror] if route.mirror else [])]:
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
            for key, other in (("judge", route.judge), ("similar.route", _route_of(route))):
                if other is not None and other not in self.routes:
                    raise ValueError(f"routes.{name}.{key} names {other!r}, which is no route")
            if route.judge == name:
                raise ValueError(f"routes.{name} judges itself: name another route in judge")
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

    @property
    def embedding_path(self) -> Path | None:
        """`embedding_folder` as an absolute path."""
        folder = self.embedding_folder
        return None if folder is None else (self.project_dir / folder).resolve()

    @property
    def prompts_path(self) -> Path:
        """`prompts` as an absolute path."""
        return (self.project_dir / self.prompts).resolve()

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


def _route_of(route: Route) -> str | None:
    return None if route.similar is None else route.similar.route


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


def settings_file(start: Path) -> Path | None:
    """The file that `load_settings` reads from the folder `start`; None where there is none."""
    return _find_table(start.resolve())[0]


def check_table(table: Mapping[str, Any], source: str) -> Settings:
    """The settings that a table would give, without what is running. Raises `SettingsError`."""
    _refuse_unknown(table, source)
    return _build(table, source)


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
            routes["embed"] = {"deployments": ["openai-embed"], "cache_seconds": VECTOR_SECONDS}
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
