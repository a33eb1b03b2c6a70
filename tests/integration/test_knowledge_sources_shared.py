"""Several sources of a collection, and people, with the same documents: when one goes."""
# ruff: noqa: F811 - pytest hands fixtures over by their names

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rotina.knowledge.loading import load
from rotina.knowledge.sources import Sources
from tests.integration.test_knowledge_ingestion import Stage
from tests.integration.test_knowledge_sources import (  # noqa: F401 - fixtures
    run,
    shop,
    site,
    stage,
    sync,
    uris,
    write,
)


@pytest.mark.parametrize("order", [("all", "text"), ("text", "all")])
async def test_overlapping_folders_delete_what_neither_lists(
    stage: Stage, tmp_path: Path, order: tuple[str, str]
) -> None:
    folder = {"kind": "folder", "path": str(tmp_path)}
    sources = Sources(stage.knowledge)
    await sources.follow("help", folder, name="all")
    await sources.follow("help", {**folder, "pattern": "*.txt"}, name="text")
    write(tmp_path, a="Refunds take seven days.", b="Delivery is free.")
    first, second = order
    assert await sync(stage, first) == {"added": 2}
    assert await sync(stage, second) == {"unchanged": 2}
    (tmp_path / "a.txt").unlink()
    assert await sync(stage, first) == {"unchanged": 1}
    assert await uris(stage.knowledge) == {"a.txt", "b.txt"}, "the other has not looked yet"
    assert await sync(stage, second) == {"unchanged": 1, "deleted": 1}
    assert await uris(stage.knowledge) == {"b.txt"}
    assert await sync(stage, first) == {"unchanged": 1}


@contextlib.asynccontextmanager
async def two_sitemaps(stage: Stage) -> AsyncIterator[tuple[dict[str, Any], list[Any]]]:
    """The sources `one` and `two` list the page `/rules`; pages, and what is asked of the site."""
    pages: dict[str, Any] = {"/rules": ("<p>Refunds take seven days.</p>", {"ETag": '"1"'})}
    async with site(pages) as (base, asked):
        for name in ("one", "two"):
            page = f"<urlset><url><loc>{base}/rules</loc></url></urlset>"
            pages[f"/{name}.xml"] = (page, {})
            settings = {"kind": "sitemap", "url": f"{base}/{name}.xml"}
            await Sources(stage.knowledge).follow("help", settings, name=name)
        yield pages, asked


EMPTY: tuple[str, dict[str, str]] = ("<urlset></urlset>", {})


@pytest.mark.parametrize(("leaves", "stays"), [("one", "two"), ("two", "one")])
async def test_a_page_stays_while_another_list_has_it(
    stage: Stage, leaves: str, stays: str
) -> None:
    async with two_sitemaps(stage) as (pages, _):
        assert await sync(stage, "one") == {"added": 1}
        assert await sync(stage, "two") == {"unchanged": 1}
        pages[f"/{leaves}.xml"] = EMPTY
        assert await sync(stage, leaves) == {}
        assert await uris(stage.knowledge) == {"rules"}
        assert await sync(stage, stays) == {"unchanged": 1}
        pages[f"/{stays}.xml"] = EMPTY
        assert await sync(stage, stays) == {"deleted": 1}
    assert await uris(stage.knowledge) == set()


async def test_two_syncs_that_let_go_at_once_delete_it(stage: Stage) -> None:
    async with two_sitemaps(stage) as (pages, _):
        await sync(stage, "one")
        await sync(stage, "two")
        pages["/one.xml"] = pages["/two.xml"] = EMPTY
        told = await asyncio.gather(sync(stage, "one"), sync(stage, "two"))
    assert sorted(told, key=len) == [{}, {"deleted": 1}]
    assert await uris(stage.knowledge) == set()


async def test_the_last_to_list_it_says_whether_it_is_kept(stage: Stage) -> None:
    async with two_sitemaps(stage) as (pages, _):
        sources = Sources(stage.knowledge)
        url = (await sources.get("help", "two")).settings["url"]
        await sources.unfollow("help", "two")
        await sources.follow("help", {"kind": "sitemap", "url": url}, name="two", gone="keep")
        await sync(stage, "one")
        await sync(stage, "two")
        pages["/one.xml"] = pages["/two.xml"] = EMPTY
        assert await sync(stage, "one") == {}
        assert await sync(stage, "two") == {}
    assert await uris(stage.knowledge) == {"rules"}


async def test_what_one_lists_no_more_is_as_the_other_says(stage: Stage, shop: str) -> None:
    """Two queries with the same ids and other texts: whoever stored last is what is found."""
    sources = Sources(stage.knowledge)
    for language, said in (("en", "'Refunds take days: ' || id"), ("pt", "'Reembolso: ' || id")):
        query = f"select id, {said} as text from product where about not like '%{language}%'"
        settings = {"kind": "sql", "database": "SHOP_DATABASE_URL", "query": query}
        await sources.follow("help", settings, name=language)
    assert await sync(stage, "pt") == {"added": 2}
    assert await sync(stage, "en") == {"changed": 2}

    async def text(uri: str) -> str:
        return (await stage.knowledge.texts("help", [uri]))[uri][0]

    assert await text("1") == "Refunds take days: 1"
    assert await sync(stage, "pt") == {"unchanged": 2}
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute("update product set about = 'not en' where id = 1")
    assert await sync(stage, "en") == {"unchanged": 1}
    assert await sync(stage, "pt") == {"changed": 1, "unchanged": 1}
    assert await text("1") == "Reembolso: 1"
    assert await text("2") == "Refunds take days: 2"


async def test_a_sync_deletes_nothing_that_a_person_added(stage: Stage, tmp_path: Path) -> None:
    write(tmp_path, before="Refunds.", after="Delivery.", changed="Old rule.")
    names = {name: str(tmp_path / f"{name}.txt") for name in ("before", "after", "changed")}

    async def by_hand(name: str) -> None:
        path = Path(names[name])
        await stage.knowledge.add("help", load(path.read_bytes(), name=path.name), uri=str(path))

    await by_hand("before")
    await by_hand("changed")
    write(tmp_path, changed="New rule.")
    await Sources(stage.knowledge).follow("help", {"kind": "folder", "path": str(tmp_path)})
    assert await sync(stage, "folder") == {"added": 1, "changed": 1, "unchanged": 1}
    await by_hand("after")
    for name in names:
        (tmp_path / f"{name}.txt").unlink()
    assert await sync(stage, "folder") == {"deleted": 1}
    assert await uris(stage.knowledge) == {"before.txt", "after.txt"}, "the other was stored anew"


async def test_what_is_followed_again_goes_as_before(stage: Stage, tmp_path: Path) -> None:
    write(tmp_path, a="Refunds.", b="Delivery.")
    sources = Sources(stage.knowledge)
    settings = {"kind": "folder", "path": str(tmp_path)}
    await sources.follow("help", settings)
    await sync(stage, "folder")
    await sources.unfollow("help", "folder")
    (tmp_path / "a.txt").unlink()
    await sources.follow("help", settings, name="again")
    assert await sync(stage, "again") == {"unchanged": 1}
    assert await uris(stage.knowledge) == {"a.txt", "b.txt"}, "nobody lists it, nobody lets it go"
    (tmp_path / "b.txt").unlink()
    assert await sync(stage, "again") == {"deleted": 1}


@pytest.mark.parametrize("moment", ["tried", "finish"])
async def test_a_crash_leaves_each_document_whose_it_was(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """After a document is stored and before that is noted; after what is gone was deleted."""
    folder = {"kind": "folder", "path": str(tmp_path)}
    sources = Sources(stage.knowledge)
    await sources.follow("help", folder, name="all")
    await sources.follow("help", {**folder, "pattern": "*.txt"}, name="text")
    write(tmp_path, gone="Old.", mine="Refunds.")
    mine = load(b"Refunds.", name="mine.txt")
    await stage.knowledge.add("help", mine, uri=str(tmp_path / "mine.txt"))
    await sync(stage, "all")
    await sync(stage, "text")
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "mine.txt").unlink()
    write(tmp_path, new="New.")
    whole = getattr(Sources, moment)
    crashes = [1, 1]

    async def crash(*arguments: Any) -> Any:
        if crashes and crashes.pop():
            raise psycopg.OperationalError("the connection is lost")
        return await whole(*arguments)

    monkeypatch.setattr(Sources, moment, crash)
    for name in ("all", "text"):
        ended = await run(stage, name)
        while ended.state == "queued":
            ended = await stage.again(ended)
        assert ended.state == "succeeded"
    assert not crashes
    assert await uris(stage.knowledge) == {"mine.txt", "new.txt"}
    (tmp_path / "new.txt").unlink()
    assert await sync(stage, "text") == {}
    assert await sync(stage, "all") == {"deleted": 1}
    assert await uris(stage.knowledge) == {"mine.txt"}


async def test_what_older_versions_have_synced_goes_too(stage: Stage, tmp_path: Path) -> None:
    write(tmp_path, synced="Refunds.")
    await Sources(stage.knowledge).follow("help", {"kind": "folder", "path": str(tmp_path)})
    await sync(stage, "folder")
    await stage.knowledge.add("help", load(b"Mine.", name="mine.txt"))
    migration = (files("rotina.database.sql") / "00.03.00_25_pre_from_source.sql").read_text()
    async with stage.pool.connection() as connection:
        await connection.execute("alter table rotina.document drop column from_source")
        await connection.execute(migration.encode())
        cursor = await connection.execute("select uri, from_source from rotina.document_part")
        rows = await cursor.fetchall()
    assert {Path(row["uri"]).name: row["from_source"] for row in rows} == {
        "synced.txt": True, "mine.txt": False,
    }  # fmt: skip
