"""Where documents come from: settings of each kind, and what a source says of its documents."""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import PurePath
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

Gone = Literal["delete", "keep"]
"""What becomes of documents whose original is gone."""

_HTTP = re.compile(r"https?://[^\s/?#]+", re.IGNORECASE)


def _http(url: str) -> str:
    if not _HTTP.match(url):
        raise ValueError(f"{url!r} is no http or https URL")
    return url


def _absolute(path: str) -> str:
    if not PurePath(path).is_absolute():
        raise ValueError(f"{path!r} is not absolute, and workers may start elsewhere")
    return path


HttpUrl = Annotated[str, AfterValidator(_http)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FolderSettings(_Settings):
    """A folder that the workers can read."""

    kind: Literal["folder"] = "folder"
    path: Annotated[str, AfterValidator(_absolute)]
    pattern: str = "**/*"
    """Which files below it, as `pathlib.Path.glob` reads it; hidden ones are left out."""


class UrlSettings(_Settings):
    """Pages and files on the web."""

    kind: Literal["url"] = "url"
    urls: list[HttpUrl] = Field(min_length=1)


class SitemapSettings(_Settings):
    """What a sitemap lists, or an index of sitemaps."""

    kind: Literal["sitemap"] = "sitemap"
    url: HttpUrl
    match: str = ""
    """A regular expression that is found in the URLs that are taken."""
    most: int = Field(default=10_000, ge=1, le=200_000)


class SqlSettings(_Settings):
    """Rows of a query, each a document: `id`, `text`, and perhaps `title` and anything else.

    What is beside these three columns becomes metadata.
    """

    kind: Literal["sql"] = "sql"
    database: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    """The environment variable that holds the PostgreSQL URL; no secret is stored."""
    query: str = Field(min_length=1)


class BucketSettings(_Settings):
    """Objects of an S3 bucket, or of one that speaks its protocol.

    Credentials are the workers' own, found as boto3 finds them; none is stored.
    """

    kind: Literal["s3"] = "s3"
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
    prefix: str = ""
    """What the keys begin with."""
    endpoint: HttpUrl | None = None
    """The server's URL; default: Amazon's."""
    region: str | None = None
    profile: str | None = None
    """One of the workers' AWS configuration."""
    public: bool = False
    """Whether the bucket is read without credentials."""


class MailboxSettings(_Settings):
    """Messages of a folder of an IMAP server."""

    kind: Literal["mailbox"] = "mailbox"
    host: str = Field(pattern=r"^[A-Za-z0-9.:_-]+$")
    port: int | None = Field(default=None, ge=1, le=65535)
    """Default: 993 for TLS, else 143."""
    user: str = Field(min_length=1)
    password: str = Field(pattern=r"^MAILBOX_[A-Z0-9_]+$")
    """The environment variable that holds it; no secret is stored.

    Its name starts with MAILBOX_, so that no other secret of a worker is sent to the host.
    """
    folder: str = Field(default="INBOX", min_length=1)
    security: Literal["tls", "starttls", "none"] = "tls"
    """`none` only for hosts of one's own, which `source_hosts` lists."""
    since: date | None = None
    """Messages that the server received on this day or later."""

    @property
    def port_number(self) -> int:
        """The port that is used."""
        return self.port or (993 if self.security == "tls" else 143)


AnySettings = Annotated[
    FolderSettings | UrlSettings | SitemapSettings | SqlSettings | BucketSettings | MailboxSettings,
    Field(discriminator="kind"),
]
SETTINGS: TypeAdapter[AnySettings] = TypeAdapter(AnySettings)


class FollowedSource(BaseModel):
    """A source that a collection follows."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    kind: str
    settings: dict[str, Any]
    gone: Gone
    synced_at: datetime | None
    documents: int
    failed: int
    due: int
    """Documents that have been seen, and not yet stored as they are now."""


@dataclass(frozen=True)
class Listed:
    """A document of a source, before it is fetched."""

    uri: str
    fingerprint: str
    """Changes when the content does; cheap to tell."""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetched:
    """A document's bytes."""

    name: str
    content: bytes
    media_type: str | None = None


class Source(ABC):
    """One way to list and fetch documents."""

    @abstractmethod
    def listed(self) -> AsyncIterator[Listed]:
        """All that is there now. Raises `SourceError` when that cannot be told."""

    @abstractmethod
    async def fetch(self, uri: str) -> Fetched:
        """One of them. Raises `SourceError`."""

    async def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Let go of what is held open."""
