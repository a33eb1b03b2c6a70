"""The help centre's warranty articles, put into collections without a process for each step."""

import asyncio
from collections.abc import Mapping

import pytest

from rotina.runs import Upload
from rotina.settings import load_settings
from rotina.worker import Client
from tests.acceptance.stack import PROJECT

HELP_CENTER = PROJECT / "samples" / "help_center"
ARTICLES = {"help-en": "en/warranty.md", "help-pt": "pt/garantia.md"}


def load_help_center(environment: Mapping[str, str]) -> None:
    """Fill `help-en` and `help-pt`; a worker with this environment must be running."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        asyncio.run(_load())


async def _load() -> None:
    async with Client.open(load_settings(PROJECT)) as client:
        started = []
        for collection, name in ARTICLES.items():
            await client.knowledge.create(collection, language="en" if "en" in collection else "pt")
            article = HELP_CENTER / name
            upload = Upload(article.name, article.read_bytes())
            value = {"collection": collection, "uri": article.name}
            started.append(await client.start("knowledge_ingest", value, upload=upload))
        for run in started:
            assert (await client.wait(run.id, timeout=60)).state == "succeeded"
