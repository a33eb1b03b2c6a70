"""Messages as Outlook saves them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rotina.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    UnsupportedDocumentError,
)
from rotina.knowledge.loading import Limits, load
from tests.compound_file import Tree, compound_file, properties, texts

SENT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def recipient(kind: int, name: str, address: str) -> Tree:
    return {
        "__properties_version1.0": properties(8, p0c15=kind),
        **texts(p3001=name, p39fe=address),
    }


def message(header: int = 32, *, parts: Tree | None = None, **values: str) -> dict[str, Any]:
    return {
        "__properties_version1.0": properties(header, p0039=SENT),
        **texts(**values),
        **(parts or {}),
    }


def saved(**given: Any) -> bytes:
    return compound_file(message(**given))


def test_a_message_reads_as_an_email_does() -> None:
    parts = {
        "__recip_version1.0_#00000000": recipient(1, "Ana Souza", "ana@example.org"),
        "__recip_version1.0_#00000001": recipient(2, "bob@example.org", "bob@example.org"),
        "__attach_version1.0_#00000000": {
            "__properties_version1.0": properties(8, p3705=1),
            **texts(p3707="orçamento.pdf"),
            "__substg1.0_37010102": b"%PDF-",
        },
    }
    content = saved(
        parts=parts, p0037="Orçamento nº 5", p0c1a="José", p5d01="jose@example.org",
        p1000="Olá,\r\nsegue o orçamento. 👍🏽 שלום", p1035="<1@example.org>",
    )  # fmt: skip
    document = load(content, name="a.msg")
    assert document.text == (
        "From: José <jose@example.org>\nTo: Ana Souza <ana@example.org>\nCc: bob@example.org\n"
        "Subject: Orçamento nº 5\nDate: Mon, 02 Mar 2026 09:00:00 +0000\n"
        "Attachments: orçamento.pdf\n\nOlá,\nsegue o orçamento. 👍🏽 שלום"
    )
    assert document.media_type == "application/vnd.ms-outlook"
    assert document.metadata["message_id"] == "<1@example.org>"
    assert document.metadata["recipients"] == "Ana Souza <ana@example.org>"
    assert load(content, name="upload").media_type == document.media_type


def test_headers_that_it_was_sent_with_win() -> None:
    sender = "From: =?utf-8?q?Jos=C3=A9?= <j@example.org>"
    headers = f"{sender}\r\nDate: Tue, 3 Mar 2026 08:00:00 -0300\r\n\r\n"
    text = load(saved(p007d=headers, p0c1a="Directory", p1000="body"), name="a.msg").text
    assert text == "From: José <j@example.org>\nDate: Tue, 3 Mar 2026 08:00:00 -0300\n\nbody"


def test_a_directorys_path_is_no_address() -> None:
    text = load(saved(p0c1a="José", p0c1f="/O=CORP/CN=JOSE", p1000="x"), name="a.msg").text
    assert text.startswith("From: José\n")


def test_html_is_read_where_there_is_no_plain_text() -> None:
    html = "<html><body><h1>Olá</h1><table><tr><td>a</td><td>ção</td></tr></table>".encode("cp1252")
    parts = {"__substg1.0_10130102": html}
    assert load(saved(parts=parts), name="a.msg").text.endswith("\n\nOlá\n\na\tção")


def test_a_code_page_of_the_message() -> None:
    content = compound_file(
        {
            "__properties_version1.0": properties(32, p3ffd=1251),
            "__substg1.0_1000001E": "Счёт на оплату".encode("cp1251"),
        }
    )
    assert load(content, name="a.msg").text == "Счёт на оплату"


def test_rtf_is_read_where_there_is_nothing_else() -> None:
    from compressed_rtf import compress

    rtf = rb"{\rtf1\ansi\ansicpg1252 Pre\'e7o: {\b 5}\par fim\par}"
    parts = {"__substg1.0_10090102": compress(rtf, compressed=True)}
    assert load(saved(parts=parts), name="a.msg").text.endswith("\n\nPreço: 5\nfim")


def test_a_message_in_a_message() -> None:
    inner = message(24, p0037="Fwd", p1000="inner body")
    parts = {
        "__attach_version1.0_#00000000": {
            "__properties_version1.0": properties(8, p3705=5),
            **texts(p3001="Fwd"),
            "__substg1.0_3701000D": inner,
        }
    }
    text = load(saved(parts=parts, p1000="outer"), name="a.msg").text
    assert "Attachments: Fwd\n\nouter\n\nSubject: Fwd\n" in text
    assert text.endswith("\n\ninner body")


def test_messages_within_messages_without_end() -> None:
    tree = message(24, p1000="deepest")
    for depth in range(60):
        attached: Tree = {
            "__properties_version1.0": properties(8, p3705=5),
            "__substg1.0_3701000D": tree,
        }
        tree = message(24, p1000=f"{depth}", parts={"__attach_version1.0_#00000000": attached})
    text = load(compound_file(tree), name="a.msg").text
    assert "\n59" in text
    assert "deepest" not in text


def test_damage_and_emptiness() -> None:
    content = saved(p1000="text " * 2000)
    with pytest.raises(CorruptDocumentError, match=r"'a\.msg'"):
        load(content[:700], name="a.msg")
    with pytest.raises(CorruptDocumentError, match=r"called MSG"):
        load(content[:8] + bytes(600), name="a.msg")
    with pytest.raises(UnsupportedDocumentError, match=r"called MSG.*plain text"):
        load(b"From: a@example.org\nSubject: x\n\ntext", name="a.msg")
    with pytest.raises(EmptyDocumentError):
        load(compound_file({"__properties_version1.0": properties(32)}), name="a.msg")
    with pytest.raises(EmptyDocumentError, match="0 bytes"):
        load(b"", name="a.msg")


def test_more_text_than_allowed() -> None:
    with pytest.raises(DocumentTooLargeError, match="max_text_chars"):
        load(saved(p1000="x" * 5000), name="a.msg", limits=Limits(max_text_chars=4000))


def test_a_stream_that_claims_more_than_the_file_holds_is_left_out() -> None:
    content = bytearray(saved(p0037="subject", p1000="x" * 5000))
    place = content.find("__substg1.0_1000001F".encode("utf-16-le"))
    content[place + 120 : place + 128] = (1 << 31).to_bytes(8, "little")
    assert load(bytes(content), name="a.msg").text.startswith("Subject: subject")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_messages_give_text_or_a_document_error(seed: int) -> None:
    content = bytearray(saved(p0037="Subject", p1000="text " * 1000))
    for step in range(20):
        content[(seed * 7919 + step * 104_729) % len(content)] = (seed * 31 + step * 17) % 256
    try:
        text = load(bytes(content), name="damaged.msg").text
    except DocumentError as error:
        text = str(error)
    assert text.strip()
