"""Folders of an IMAP server, followed by durable runs."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from rotina.database import Pool
from rotina.errors import SourceError
from rotina.knowledge.sources import MailboxSettings, Sources, open_source
from rotina.knowledge.sources.model import Source
from tests.integration.test_knowledge_ingestion import Stage, staged
from tests.integration.test_knowledge_sources import SYNC, run, sync
from tests.mail_server import PASSWORD, USER, MailServer, mail_server, tls_in_front

HERE = "127.0.0.1"


@dataclass
class Mail:
    server: MailServer
    authority: trustme.CA
    folder: Path

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Of this server, without encryption."""
        plain = {"kind": "mailbox", "host": HERE, "port": self.server.port, "security": "none"}
        return {**plain, "user": USER, "password": "MAILBOX_PASSWORD", **changes}

    def opened(self, hosts: tuple[str, ...] = (HERE, "localhost"), **changes: Any) -> Source:
        """Messages of at most 2,000 bytes."""
        settings = MailboxSettings.model_validate(self.settings(**changes))
        return open_source(settings, hosts=hosts, most_bytes=2000)

    def certificate(self, name: str) -> Path:
        """With its key, of the authority that `SSL_CERT_FILE` names."""
        path = self.folder / f"{name}.pem"
        made = self.authority.issue_cert(name)
        path.write_bytes(
            made.private_key_pem.bytes() + b"".join(each.bytes() for each in made.cert_chain_pems)
        )
        return path


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with mail_server() as served:
        yield served


@pytest.fixture
def mail(server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mail]:
    """One server for all tests, with an empty inbox for each."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("MAILBOX_PASSWORD", PASSWORD)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    yield Mail(server, authority, tmp_path)
    with server.client() as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search())
        client.expunge()


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with staged(pool, [SYNC], [HERE, "localhost"]) as opened:
        yield opened


async def names(source: Source) -> list[str]:
    try:
        return [each.uri async for each in source.listed()]
    finally:
        await source.close()


async def test_a_mailbox_is_followed(stage: Stage, mail: Mail) -> None:
    mail.server.deliver("Refunds", "Refunds take seven days.")
    mail.server.deliver("Prazo de devolução", "O prazo de devolução é de sete dias.")
    await Sources(stage.knowledge).follow("help", mail.settings())
    assert await sync(stage, "mailbox") == {"added": 2}
    (first, *_) = await stage.knowledge.search("help", "prazo de devolução", k=1)
    assert "O prazo de devolução é de sete dias." in first.text
    assert first.uri.startswith(f"imap://ana%40example.org@{HERE}/INBOX;UIDVALIDITY=")
    stored = await stage.knowledge.documents("help")
    assert {each.title for each in stored} == {"Refunds", "Prazo de devolução"}

    asked = len(stage.model.requests)
    assert await sync(stage, "mailbox") == {"unchanged": 2}
    assert len(stage.model.requests) == asked, "nothing was embedded again"

    with mail.server.client() as client:
        client.select_folder("INBOX")
        assert client.search("SEEN") == [], "nothing is marked as read"
        client.delete_messages(client.search(["SUBJECT", "Refunds"]))
    mail.server.deliver("Delivery", "Delivery is free.")
    told = await sync(stage, "mailbox")
    assert told == {"added": 1, "unchanged": 1, "deleted": 1}, "also before it is expunged"


async def test_a_folder_named_in_portuguese_since_a_day(stage: Stage, mail: Mail) -> None:
    with mail.server.client() as client:
        client.create_folder("Opiniões & Críticas")
    mail.server.deliver("Frete", "O frete é grátis.", "Opiniões & Críticas")
    day = date.today()  # noqa: DTZ011 - the server's day
    changes: dict[str, Any] = {"folder": "Opiniões & Críticas", "since": day - timedelta(days=1)}
    assert len(await names(mail.opened(**changes))) == 1
    assert await names(mail.opened(folder="INBOX", since=changes["since"])) == [], "nothing there"
    changes["since"] = day + timedelta(days=2)
    assert await names(mail.opened(**changes)) == []
    changes["since"] = str(day)
    await Sources(stage.knowledge).follow("help", mail.settings(**changes), name="feedback")
    kept = await Sources(stage.knowledge).get("help", "feedback")
    assert kept.settings["since"] == str(day)
    assert await sync(stage, "feedback") == {"added": 1}


async def test_one_message_that_fails_leaves_the_others(stage: Stage, mail: Mail) -> None:
    mail.server.deliver("Short", "Refunds take seven days.")
    with mail.server.client() as client:
        client.append("INBOX", b"\0\0\0")
    await Sources(stage.knowledge).follow("help", mail.settings())
    assert await sync(stage, "mailbox") == {"added": 1, "failed": 1}


async def test_a_message_may_be_too_large_or_gone(mail: Mail) -> None:
    mail.server.deliver("Long", "a" * 3000)
    source = mail.opened()
    (uri,) = [each.uri async for each in source.listed()]
    with pytest.raises(SourceError, match="more than 2000 bytes"):
        await source.fetch(uri)
    for other in (uri[:-1] + "99999", uri.replace("VALIDITY=", "VALIDITY=1"), uri + "x"):
        with pytest.raises(SourceError, match="is gone from"):
            await source.fetch(other)
    await source.close()
    await source.close()


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_it_is_encrypted(mail: Mail, security: str) -> None:
    certificate = mail.certificate("localhost")
    with mail_server(certificate=certificate) as served:
        async with tls_in_front(certificate, served.port) as front:
            port = front.port if security == "tls" else served.port
            source = mail.opened(host="localhost", port=port, security=security)
            assert await names(source) == []
            assert front.accepted == (security == "tls")


async def test_a_connection_that_was_lost_is_opened_again(mail: Mail) -> None:
    mail.server.deliver("Refunds", "Refunds take seven days.")
    async with tls_in_front(mail.certificate("localhost"), mail.server.port) as front:
        source = mail.opened(host="localhost", port=front.port, security="tls")
        (uri,) = [each.uri async for each in source.listed()]
        front.cut()
        assert b"seven days" in (await source.fetch(uri)).content
        assert front.accepted == 2
        await source.close()


async def test_a_certificate_for_another_name_is_refused(mail: Mail) -> None:
    async with tls_in_front(mail.certificate("mail.example.org"), mail.server.port) as front:
        source = mail.opened(host="localhost", port=front.port, security="tls")
        with pytest.raises(SourceError, match=r"'localhost' cannot be asked: SSLCert.* mismatch"):
            await names(source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": "nobody"}, "refuses the login of 'nobody' .*MAILBOX_PASSWORD"),
        ({"folder": "Nenhuma"}, r"has no folder 'Nenhuma' .* it has .*INBOX"),
        ({"port": 9}, "'127.0.0.1' cannot be asked: ConnectionRefusedError"),
        ({"security": "starttls"}, "'127.0.0.1' "),
        ({"security": "tls"}, "'127.0.0.1' cannot be asked"),
        ({"host": "169.254.169.254", "security": "tls"}, "no public address"),
        ({"host": "nowhere.invalid", "security": "tls"}, "nowhere.invalid"),
    ],
)
async def test_a_mailbox_that_cannot_be_read_says_why(
    mail: Mail, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        await names(mail.opened(**change))


async def test_a_password_that_is_missing_or_would_cross_in_the_clear(
    mail: Mail, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"in the clear.*source_hosts"):
        mail.opened(hosts=())
    await Sources(stage.knowledge).follow("help", mail.settings())
    monkeypatch.delenv("MAILBOX_PASSWORD")
    ended = await run(stage, "mailbox")
    assert ended.error is not None
    assert "MAILBOX_PASSWORD is not set" in ended.error["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": "imap.example.org/x"}, "host"),
        ({"password": "hunter2"}, "password"),
        ({"password": "OPENAI_API_KEY"}, "password"),
        ({"security": "ssl"}, "security"),
        ({"since": "yesterday"}, "since"),
        ({"folder": ""}, "folder"),
        ({"port": 70_000}, "port"),
    ],
)
async def test_malformed_settings_are_refused(
    mail: Mail, stage: Stage, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        await Sources(stage.knowledge).follow("help", mail.settings(**change))
