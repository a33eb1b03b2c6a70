"""PPTX: what each slide says, and what bad files give."""

import io
import zipfile

import pytest
from pptx import Presentation
from pptx.util import Inches

from rotina.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    EncryptedDocumentError,
    UnsupportedDocumentError,
)
from rotina.knowledge.loading import Limits, load

TITLE_AND_CONTENT, BLANK = 1, 6
SLIDE = "ppt/slides/slide1.xml"


def presentation() -> bytes:
    made = Presentation()
    made.core_properties.title = "Resultados"
    made.core_properties.author = "Ana"
    first = made.slides.add_slide(made.slide_layouts[TITLE_AND_CONTENT])
    first.shapes.title.text = "Vendas de março"
    first.placeholders[1].text = "Pão: 10\nAçaí: 3 👍🏽"
    first.notes_slide.notes_text_frame.text = "Falar devagar"
    second = made.slides.add_slide(made.slide_layouts[BLANK])
    table = second.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for cell, text in zip(table.iter_cells(), ("Item", "Qty", "Açúcar\n1 kg", "3"), strict=True):
        cell.text = text
    group = second.shapes.add_group_shape()
    box = group.shapes.add_textbox(Inches(1), Inches(3), Inches(4), Inches(1))
    box.text_frame.text = "שלום in a group"
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def replaced(content: bytes, name: str, data: bytes | None) -> bytes:
    """The container with one entry's data replaced, or without it."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            if entry != name:
                target.writestr(entry, source.read(entry))
            elif data is not None:
                target.writestr(entry, data)
    return stream.getvalue()


def test_slides_are_pages_with_titles_tables_and_notes() -> None:
    document = load(presentation(), name="a.pptx")
    shown = [document.text[page.start : page.end] for page in document.pages]
    assert shown == [
        "Vendas de março\n\nPão: 10\nAçaí: 3 👍🏽\n\nNotes: Falar devagar",
        "Item\tQty\nAçúcar 1 kg\t3\n\nשלום in a group",
    ]
    (heading,) = document.headings
    assert document.text[heading.start : heading.end] == "Vendas de março"
    assert document.metadata == {"title": "Resultados", "author": "Ana"}
    assert document.media_type.endswith("presentationml.presentation")
    assert load(presentation(), name="upload").media_type == document.media_type


def test_slides_come_in_the_order_of_the_show() -> None:
    content = presentation()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        main = archive.read("ppt/presentation.xml").decode()
    start, end = main.index("<p:sldIdLst>") + len("<p:sldIdLst>"), main.index("</p:sldIdLst>")
    first, second = main[start:end].replace("/><", "/>|<").split("|")
    turned = main[:start] + second + first + main[end:]
    document = load(replaced(content, "ppt/presentation.xml", turned.encode()), name="a.pptx")
    assert document.text.startswith("Item\tQty")
    assert document.page_of(document.text.index("Vendas")) == 2


def test_what_repeats_on_every_slide_is_left_out() -> None:
    with zipfile.ZipFile(io.BytesIO(presentation())) as archive:
        slide = archive.read(SLIDE).decode()
    number = (
        '<p:sp><p:nvSpPr><p:cNvPr id="9" name="n"/><p:cNvSpPr/><p:nvPr><p:ph type="sldNum"/>'
        "</p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>page 77</a:t></a:r></a:p>"
        "</p:txBody></p:sp></p:spTree>"
    )
    content = replaced(presentation(), SLIDE, slide.replace("</p:spTree>", number).encode())
    text = load(content, name="a.pptx").text
    assert "page 77" not in text
    assert "Vendas" in text


def test_too_many_slides() -> None:
    with pytest.raises(DocumentTooLargeError, match=r"2 slides and 1 are allowed.*max_pages"):
        load(presentation(), name="a.pptx", limits=Limits(max_pages=1))


def test_bombs() -> None:
    with pytest.raises(DocumentTooLargeError, match="ZIP bomb"):
        load(replaced(presentation(), SLIDE, b" " * 30_000_000), name="a.pptx")
    with pytest.raises(DocumentTooLargeError, match="max_unzipped_bytes allows 1000"):
        load(presentation(), name="a.pptx", limits=Limits(max_unzipped_bytes=1000))
    entity = b'<!DOCTYPE x [<!ENTITY a "ha">]><x>&a;</x>'
    with pytest.raises(CorruptDocumentError, match="XML entities"):
        load(replaced(presentation(), SLIDE, entity), name="a.pptx")
    with pytest.raises(DocumentTooLargeError, match="max_text_chars"):
        load(presentation(), name="a.pptx", limits=Limits(max_text_chars=30))


def test_groups_within_groups_without_end() -> None:
    with zipfile.ZipFile(io.BytesIO(presentation())) as archive:
        slide = archive.read(SLIDE).decode()
    deep = "<p:grpSp>" * 3000 + "</p:grpSp>" * 3000
    content = replaced(
        presentation(), SLIDE, slide.replace("</p:spTree>", f"{deep}</p:spTree>").encode()
    )
    with pytest.raises(CorruptDocumentError, match=r"'a\.pptx'"):
        load(content, name="a.pptx")


def test_damage() -> None:
    content = presentation()
    with pytest.raises(CorruptDocumentError, match=r"'a\.pptx'"):
        load(content[: len(content) // 2], name="a.pptx")
    with pytest.raises(CorruptDocumentError, match=r"'a\.pptx'"):
        load(replaced(content, SLIDE, b"<not-closed>"), name="a.pptx")
    with pytest.raises(CorruptDocumentError, match=r"'ppt/slides/slide1\.xml' is missing"):
        load(replaced(content, SLIDE, None), name="a.pptx")
    with pytest.raises(CorruptDocumentError, match="no officeDocument"):
        load(replaced(content, "_rels/.rels", b"<x/>"), name="a.pptx")
    with pytest.raises(UnsupportedDocumentError, match=r"called PPTX.*plain text"):
        load(b"hello", name="a.pptx")
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    with pytest.raises(EncryptedDocumentError, match="password"):
        load(ole + "EncryptedPackage".encode("utf-16-le"), name="a.pptx")


def test_nothing_on_the_slides() -> None:
    made = Presentation()
    made.slides.add_slide(made.slide_layouts[BLANK])
    stream = io.BytesIO()
    made.save(stream)
    with pytest.raises(EmptyDocumentError, match=r"'a\.pptx'"):
        load(stream.getvalue(), name="a.pptx")


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_give_text_or_a_document_error(seed: int) -> None:
    content = bytearray(presentation())
    for step in range(20):
        content[(seed * 7919 + step * 104_729) % len(content)] = (seed * 31 + step * 17) % 256
    try:
        text = load(bytes(content), name="damaged.pptx").text
    except DocumentError as error:
        text = str(error)
    assert text.strip()
