"""Sources that a collection follows: folders, URLs, sitemaps, rows of a database, buckets."""

from rotina.knowledge.sources.model import (
    BucketSettings,
    Fetched,
    FolderSettings,
    FollowedSource,
    Listed,
    MailboxSettings,
    SitemapSettings,
    Source,
    SqlSettings,
    UrlSettings,
)
from rotina.knowledge.sources.opening import open_source
from rotina.knowledge.sources.store import Sources

__all__ = [
    "BucketSettings",
    "Fetched",
    "FolderSettings",
    "FollowedSource",
    "Listed",
    "MailboxSettings",
    "SitemapSettings",
    "Source",
    "Sources",
    "SqlSettings",
    "UrlSettings",
    "open_source",
]
