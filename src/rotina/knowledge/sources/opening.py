"""The source that some settings stand for."""

from collections.abc import Sequence

from rotina.knowledge.sources.bucket import Bucket
from rotina.knowledge.sources.folder import Folder
from rotina.knowledge.sources.mailbox import Mailbox
from rotina.knowledge.sources.model import (
    AnySettings,
    BucketSettings,
    FolderSettings,
    MailboxSettings,
    SitemapSettings,
    Source,
    UrlSettings,
)
from rotina.knowledge.sources.sql import SqlQuery
from rotina.knowledge.sources.web import Sitemap, Urls


def open_source(settings: AnySettings, *, hosts: Sequence[str], most_bytes: int) -> Source:
    """Does no I/O. `hosts` may be at private addresses. Raises `SourceError`."""
    if isinstance(settings, FolderSettings):
        return Folder(settings, most_bytes)
    if isinstance(settings, UrlSettings):
        return Urls(settings, hosts, most_bytes)
    if isinstance(settings, SitemapSettings):
        return Sitemap(settings, hosts, most_bytes)
    if isinstance(settings, BucketSettings):
        return Bucket(settings, hosts, most_bytes)
    if isinstance(settings, MailboxSettings):
        return Mailbox(settings, hosts, most_bytes)
    return SqlQuery(settings)
