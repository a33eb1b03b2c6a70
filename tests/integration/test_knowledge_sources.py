"""Sources that a collection follows, synced by durable runs against real files, servers, rows."""

import asyncio
import contextlib
import gzip
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import web

from rotina.database import Pool
from rotina.errors import CollectionNotFoundError, SourceError
from rotina.graphs.syncing import Synced
from rotina.knowledge import KnowledgeBase
from rotina.knowledge.sources import (
    BucketSettings,
    FolderSettings,
    FollowedSource,
    Listed,
    Sources,
    open_source,
)
from rotina.knowledge.sources.guarded import GuardedResolver, request
from rotina.runs import Run, Workflow
from tests.bucket_server import READER, bucket_server
from tests.integration.test_knowledge_ingestion import Stage, staged
from tests.scripted_model import Behaviour, Request, status
from workflows.knowledge_sync import KNOWLEDGE_SYNC

SYNC: Workflow = KNOWLEDGE_SYNC


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with staged(pool, [SYNC], ["127.0.0.1", "localhost"]) as opened:
        yield opened


async def run(stage: Stage, source: str, **options: Any) -> Run:
    value = {"collection": "help", "source": source, **options}
    accepted = await stage.store.accept(SYNC, value)
    await stage.driver.drive(accepted.id)
    return await stage.store.get(accepted.id)


async def sync(stage: Stage, source: str, **options: Any) -> dict[str, int]:
    """What a sync did, without what it did not."""
    ended = await run(stage, source, **options)
    assert ended.result is not None, ended.error
    told = Synced.model_validate(ended.result["synced"]).model_dump()
    return {name: value for name, value in told.items() if isinstance(value, int) and value}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)


async def uris(knowledge: KnowledgeBase) -> set[str]:
    return {Path(each.uri).name for each in await knowledge.documents("help")}


# ── folders ───────────────────────────────────────────────────────────────────────────────────


async def test_a_folder_is_followed(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    write(tmp_path, a="Refunds take seven days.", b="Delivery is free.")
    write(tmp_path / "sub", c="Prazo de sete dias.")
    write(tmp_path / ".hidden", d="Nobody sees this.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    (tmp_path / "out.txt").symlink_to("/etc/hostname")
    sources = Sources(stage.knowledge)
    await sources.follow("help", {"kind": "folder", "path": str(tmp_path)})
    assert await sync(stage, "folder") == {"added": 3, "failed": 1}
    assert await uris(stage.knowledge) == {"a.txt", "b.txt", "c.txt"}
    followed = await sources.get("help", "folder")
    (failure,) = await sources.failed(followed)
    assert failure["uri"].endswith("broken.pdf")
    assert failure["error"]["type"] == "CorruptDocumentError"

    asked = len(stage.model.requests)
    told = await sync(stage, "folder")
    assert told == {"unchanged": 3, "failed": 1}
    assert len(stage.model.requests) == asked, "nothing was embedded again"

    write(tmp_path, a="Refunds take nine days.", e="New.")
    os.utime(tmp_path / "b.txt", ns=(1, 1))
    (tmp_path / "sub" / "c.txt").unlink()
    told = await sync(stage, "folder")
    assert told == {"added": 1, "changed": 1, "unchanged": 1, "failed": 1, "deleted": 1}
    assert await uris(stage.knowledge) == {"a.txt", "b.txt", "e.txt"}
    assert (await stage.knowledge.search("help", "nine", k=1))[0].text == "Refunds take nine days."


async def test_a_folder_of_many_pages_is_listed_whole(tmp_path: Path) -> None:
    for number in range(2003):
        (tmp_path / f"{number}.txt").touch()
    source = open_source(FolderSettings(path=str(tmp_path)), hosts=[], most_bytes=1000)
    assert len({each.uri async for each in source.listed()}) == 2003


async def test_what_failed_is_tried_when_it_changes_or_when_asked(
    stage: Stage, tmp_path: Path
) -> None:
    sources = Sources(stage.knowledge)
    await sources.follow("help", {"kind": "folder", "path": str(tmp_path)}, name="docs")
    (tmp_path / "empty.txt").touch()
    assert await sync(stage, "docs") == {"failed": 1}
    again = await run(stage, "docs", retry_failed=True)
    assert again.result is not None
    assert again.result["synced"]["failed"] == 1
    write(tmp_path, empty="No longer.")
    assert await sync(stage, "docs") == {"added": 1}
    assert await sources.failed(await sources.get("help", "docs")) == []


async def test_gone_documents_may_be_kept(stage: Stage, tmp_path: Path) -> None:
    settings = {"kind": "folder", "path": str(tmp_path), "pattern": "*.txt"}
    await Sources(stage.knowledge).follow("help", settings, gone="keep")
    write(tmp_path, a="Refunds.")
    await sync(stage, "folder")
    (tmp_path / "a.txt").unlink()
    assert await sync(stage, "folder") == {}
    assert await uris(stage.knowledge) == {"a.txt"}


async def test_a_source_that_cannot_be_listed_deletes_nothing(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    write(folder, a="Refunds.")
    await Sources(stage.knowledge).follow("help", {"kind": "folder", "path": str(folder)})
    await sync(stage, "folder")
    folder.rename(tmp_path / "away")
    ended = await run(stage, "folder")
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["type"] == "SourceError"
    assert await uris(stage.knowledge) == {"a.txt"}


async def test_a_model_that_fails_fails_the_attempt_not_the_documents(
    stage: Stage, tmp_path: Path
) -> None:
    write(tmp_path, **{f"d{n}": f"Rule {n}." for n in range(8)})
    sources = Sources(stage.knowledge)
    await sources.follow("help", {"kind": "folder", "path": str(tmp_path)})
    count = 0

    def failing(request: Request) -> Behaviour | None:
        nonlocal count
        count += 1
        return status(500) if count == 4 else None

    stage.model.script = failing
    ended = await run(stage, "folder")
    assert ended.state == "queued", "a server's failure passes: another attempt"
    stored = await uris(stage.knowledge)
    assert 3 <= len(stored) < 8
    asked = len(stage.model.requests)
    ended = await stage.again(ended)
    assert ended.result is not None
    assert ended.result["synced"]["added"] == 8
    assert len(stage.model.requests) - asked == 8 - len(stored), "nothing twice"
    assert await sources.failed(await sources.get("help", "folder")) == []


# ── the web ───────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def site(pages: dict[str, Any]) -> AsyncIterator[tuple[str, list[tuple[str, str]]]]:
    """A server of (body, headers) or a status or a redirect, and what it was asked."""
    asked: list[tuple[str, str]] = []

    async def answer(http: web.Request) -> web.StreamResponse:
        asked.append((http.method, http.path))
        page = pages.get(http.path)
        if page is None:
            return web.Response(status=404)
        if isinstance(page, str):
            return web.Response(status=302, headers={"Location": page})
        body, headers = page
        return web.Response(body=body, headers={"Content-Type": "text/html", **headers})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        await runner.cleanup()


async def test_urls_are_fetched_when_they_have_changed(stage: Stage) -> None:
    page = "<html><title>Rules</title><body><h1>Rules</h1><p>Refunds take {} days.</p></body>"
    pages: dict[str, Any] = {
        "/rules.html": (page.format("seven"), {"ETag": '"1"'}),
        "/moved": "/rules2.html",
        "/rules2.html": (page.format("eight"), {}),
    }
    async with site(pages) as (base, asked):
        urls = [f"{base}/rules.html", f"{base}/moved", f"{base}/none.html"]
        sources = Sources(stage.knowledge)
        await sources.follow("help", {"kind": "url", "urls": urls})
        assert await sync(stage, "url") == {"added": 2, "failed": 1}
        (failure,) = await sources.failed(await sources.get("help", "url"))
        assert "404" in failure["error"]["message"]
        asked.clear()
        assert await sync(stage, "url") == {"unchanged": 2, "failed": 1}
        assert ("GET", "/rules.html") not in asked, "its ETag said that nothing has changed"
        pages["/rules.html"] = (page.format("nine"), {"ETag": '"2"'})
        assert await sync(stage, "url") == {"changed": 1, "unchanged": 1, "failed": 1}
    found = await stage.knowledge.search("help", "refunds nine", k=1)
    assert "nine" in found[0].text
    assert found[0].title == "Rules"


async def test_a_sitemap_is_followed(stage: Stage) -> None:
    def entry(url: str, changed: str) -> str:
        return f"<url><loc>{url}</loc><lastmod>{changed}</lastmod></url>"

    pages: dict[str, Any] = {f"/help/{n}": (f"<p>Rule {n} about refunds.</p>", {}) for n in (1, 2)}
    async with site(pages) as (base, asked):
        inner = gzip.compress(
            f"<urlset>{entry(f'{base}/help/1', '2026-01-01')}"
            f"{entry(f'{base}/help/2', '2026-01-01')}"
            f"{entry(f'{base}/news/3', '2026-01-01')}</urlset>".encode()
        )
        index = f"<sitemapindex><sitemap><loc>{base}/inner.gz</loc></sitemap></sitemapindex>"
        pages |= {"/sitemap.xml": (index, {}), "/inner.gz": (inner, {})}
        settings = {"kind": "sitemap", "url": f"{base}/sitemap.xml", "match": "/help/"}
        sources = Sources(stage.knowledge)
        await sources.follow("help", settings)
        assert await sync(stage, "sitemap") == {"added": 2}
        asked.clear()
        assert await sync(stage, "sitemap") == {"unchanged": 2}
        assert [path for _, path in asked] == ["/sitemap.xml", "/inner.gz"]
        await sources.follow("help", {**settings, "most": 1}, name="few")
        ended = await run(stage, "few")
        assert ended.error is not None
        assert "lists more than 1 pages" in ended.error["message"]
        pages["/inner.gz"] = (gzip.compress(bytes(60_000_000)), {})
        ended = await run(stage, "sitemap")
        assert ended.error is not None
        assert "unpacks to more than" in ended.error["message"]
    assert len(await stage.knowledge.documents("help")) == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a",
        "http://localhost:{port}/a",
        "http://[::1]:{port}/a",
        "http://[::ffff:127.0.0.1]:{port}/a",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://0.0.0.0:{port}/a",
        "http://2130706433:{port}/a",
    ],
)
async def test_private_addresses_are_refused(url: str) -> None:
    async with site({"/a": ("secret", {})}) as (base, asked):
        port = base.rpartition(":")[2]
        with pytest.raises(SourceError):
            await request("GET", url.format(port=port), allowed=[], most_bytes=1000)
        assert asked == []


async def test_a_redirect_is_judged_too_and_size_is_bounded() -> None:
    pages: dict[str, Any] = {
        "/in": "http://169.254.169.254/", "/file": "file:///etc/passwd",
        "/loop": "/loop", "/big": ("x" * 5000, {}),
    }  # fmt: skip
    async with site(pages) as (base, _):
        for path, message in (
            ("/in", "no public address"),
            ("/file", "no web address"),
            ("/loop", "redirects more than"),
            ("/big", "more than 1000 bytes"),
        ):
            with pytest.raises(SourceError, match=message):
                await request("GET", base + path, allowed=["127.0.0.1"], most_bytes=1000)


async def test_a_name_is_resolved_once_and_to_what_was_judged() -> None:
    resolver = GuardedResolver([])
    with pytest.raises(SourceError, match="no public address"):
        await resolver.resolve("localhost", 80)
    resolver.judge("example.org", "93.184.215.14")
    allowed = await GuardedResolver(["LOCALHOST"]).resolve("localhost", 80)
    assert {each["host"] for each in allowed} <= {"127.0.0.1", "::1"}


# ── rows ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shop(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of products in a database of its own variable."""
    monkeypatch.setenv("SHOP_DATABASE_URL", database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create table product (id int primary key, name text, about text)")
        connection.execute(
            "insert into product values (1, 'Kettle', 'Refunds within a year.'), "
            "(2, 'Chaleira', 'Devolução em {sete} dias, 100% certa.')"
        )
    return database_url


async def test_rows_are_followed_for_changes(stage: Stage, shop: str) -> None:
    query = "select id, name as title, about as text, id % 2 = 0 as even from product;"
    settings = {"kind": "sql", "database": "SHOP_DATABASE_URL", "query": query}
    await Sources(stage.knowledge).follow("help", settings)
    assert await sync(stage, "sql") == {"added": 2}
    found = await stage.knowledge.search("help", "devolução", k=1, filter={"even": True})
    assert "100% certa" in found[0].text
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute("update product set about = 'Refunds within two years.' where id = 1")
        connection.execute("delete from product where id = 2")
    assert await sync(stage, "sql") == {"changed": 1, "deleted": 1}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("delete from product returning id, about as text", "refused the query"),
        ("select name as text from product", "needs the columns id and text"),
        ("select null as id, about as text from product", "id is null"),
        ("select 1/0 as id, 'x' as text", "division by zero"),
    ],
)
async def test_a_query_that_does_not_fit_is_said(
    stage: Stage, shop: str, query: str, message: str
) -> None:
    settings = {"kind": "sql", "database": "SHOP_DATABASE_URL", "query": query}
    await Sources(stage.knowledge).follow("help", settings)
    ended = await run(stage, "sql")
    assert ended.error is not None
    assert message in ended.error["message"]
    with psycopg.connect(shop) as connection:
        assert connection.execute("select count(*) from product").fetchone() == (2,)


# ── buckets ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A server of S3's protocol that asks for credentials, and the folder that is its bucket."""
    for name, value in READER.items():
        monkeypatch.setenv(name, value)
    with bucket_server(tmp_path / "store") as served:
        yield served


async def test_a_bucket_is_followed(stage: Stage, bucket: tuple[str, Path]) -> None:
    endpoint, folder = bucket
    (folder / "help" / "pt").mkdir(parents=True)
    write(folder / "help", a="Refunds take seven days.", b="Delivery is free.")
    write(folder / "help" / "pt", prazo_ação="Prazo de sete dias.")
    write(folder, other="Not below the prefix.")
    (folder / "help" / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    sources = Sources(stage.knowledge)
    settings = {"kind": "s3", "bucket": "papers", "prefix": "help/", "endpoint": endpoint}
    await sources.follow("help", settings)
    assert await sync(stage, "s3") == {"added": 3, "failed": 1}
    assert await uris(stage.knowledge) == {"a.txt", "b.txt", "prazo_ação.txt"}
    (first, *_) = await stage.knowledge.search("help", "Delivery", k=1)
    assert first.uri == "s3://papers/help/b.txt"

    asked = len(stage.model.requests)
    assert await sync(stage, "s3") == {"unchanged": 3, "failed": 1}
    assert len(stage.model.requests) == asked, "nothing was embedded again"

    write(folder / "help", a="Refunds take nine days.")
    (folder / "help" / "b.txt").unlink()
    told = await sync(stage, "s3")
    assert told == {"changed": 1, "unchanged": 1, "failed": 1, "deleted": 1}


async def test_a_bucket_of_many_pages_is_listed_whole(bucket: tuple[str, Path]) -> None:
    endpoint, folder = bucket
    for number in range(1003):
        (folder / f"{number}.txt").touch()
    settings = BucketSettings(bucket="papers", endpoint=endpoint)
    source = open_source(settings, hosts=["127.0.0.1"], most_bytes=1000)
    assert len({each.uri async for each in source.listed()}) == 1003


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bucket": "nope"}, "bucket 'nope' answers NoSuchBucket"),
        ({"public": True}, "bucket 'papers' answers"),
        ({"endpoint": "http://127.0.0.1:9"}, "cannot be fetched"),
        ({"endpoint": "http://169.254.169.254"}, "no public address"),
        ({"profile": "nobody"}, r"cannot be asked: The config profile \(nobody\)"),
    ],
)
async def test_a_bucket_that_cannot_be_listed_says_why(
    bucket: tuple[str, Path], change: dict[str, Any], message: str
) -> None:
    settings = {"bucket": "papers", "endpoint": bucket[0], **change}
    opened = BucketSettings.model_validate(settings)
    source = open_source(opened, hosts=["127.0.0.1"], most_bytes=1000)
    with pytest.raises(SourceError, match=message):
        [each async for each in source.listed()]


async def test_an_object_may_be_too_large_and_credentials_missing(
    bucket: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint, folder = bucket
    (folder / "large.txt").write_text("a" * 2000)
    settings = BucketSettings(bucket="papers", endpoint=endpoint)
    source = open_source(settings, hosts=["127.0.0.1"], most_bytes=1000)
    with pytest.raises(SourceError, match="more than 1000 bytes"):
        await source.fetch("s3://papers/large.txt")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    source = open_source(settings, hosts=["127.0.0.1"], most_bytes=1000)
    with pytest.raises(SourceError, match="needs credentials"):
        await source.fetch("s3://papers/large.txt")


# ── what is refused, and whose it is ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "kind"),
        ({"kind": "ftp"}, "kind"),
        ({"kind": "folder", "path": "docs"}, "is not absolute"),
        ({"kind": "folder", "path": "/docs", "colour": 1}, "colour"),
        ({"kind": "url", "urls": []}, "urls"),
        ({"kind": "url", "urls": ["file:///etc/passwd"]}, "no http or https URL"),
        ({"kind": "s3", "bucket": "a/b"}, "bucket"),
        ({"kind": "s3", "bucket": "papers", "endpoint": "papers.local"}, "no http or https URL"),
        ({"kind": "sql", "database": "postgresql://u:p@h/d", "query": "select 1"}, "database"),
    ],
)
async def test_malformed_sources_are_refused(
    stage: Stage, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        await Sources(stage.knowledge).follow("help", settings)


async def test_names_and_tenants(stage: Stage, tmp_path: Path) -> None:
    sources = Sources(stage.knowledge)
    settings = {"kind": "folder", "path": str(tmp_path)}
    await sources.follow("help", settings)
    with pytest.raises(SourceError, match="follows a source 'folder' already"):
        await sources.follow("help", settings)
    with pytest.raises(SourceError, match="is no source's name"):
        await sources.follow("help", settings, name="a b")
    with pytest.raises(SourceError, match="follows no source 'nope'"):
        await sources.get("help", "nope")
    rival = KnowledgeBase(stage.pool, stage.knowledge.gateway, "rival")
    with pytest.raises(CollectionNotFoundError):
        await Sources(rival).all("help")
    await rival.create("help")
    assert await Sources(rival).all("help") == []
    (known,) = await sources.all("help")
    assert isinstance(known, FollowedSource)
    await sources.unfollow("help", "folder")
    assert await sources.all("help") == []
    ended = await run(stage, "folder")
    assert ended.error is not None
    assert "follows no source" in ended.error["message"]


async def test_a_sync_deletes_nothing_that_another_has_seen(stage: Stage) -> None:
    """The second lists everything after the first has: for neither of them anything is gone."""
    sources = Sources(stage.knowledge)
    followed = await sources.follow("help", {"kind": "folder", "path": "/docs"})
    listed = [Listed(f"/docs/{n}.txt", "1") for n in range(3)]
    began = []
    for _ in range(2):
        began.append(await sources.clock())
        await sources.see(followed.id, listed)
    for each in began:
        assert await sources.let_go("help", followed, each, 10) == (0, 0)
        assert len(await sources.due(followed.id, each, 10)) == 3
    third = await sources.clock()
    await sources.see(followed.id, listed[1:])
    assert await sources.let_go("help", followed, third, 10) == (1, 0)
    assert (await sources.get("help", "folder")).documents == 2


async def test_two_syncs_at_once_store_everything_once(stage: Stage, tmp_path: Path) -> None:
    write(tmp_path, **{f"d{n}": f"Rule {n}." for n in range(6)})
    await Sources(stage.knowledge).follow("help", {"kind": "folder", "path": str(tmp_path)})
    await asyncio.gather(run(stage, "folder"), run(stage, "folder"))
    assert len(await stage.knowledge.documents("help")) == 6
    assert {each.version for each in await stage.knowledge.documents("help")} == {1}
