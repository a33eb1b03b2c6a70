"""What each format gives, and what bad input gives."""

import base64
import io
import struct
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage

import pytest
from docx import Document as Docx
from openpyxl import Workbook
from reportlab.lib import pdfencrypt
from reportlab.pdfgen.canvas import Canvas

from rotina.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
    EmptyDocumentError,
    EncryptedDocumentError,
    NoTextLayerError,
    UnsupportedDocumentError,
)
from rotina.knowledge.loading import Limits, load
from rotina.settings import Settings

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
RANDOM = bytes((index * 197 + index // 7) % 256 for index in range(5000))


def _pdf(*pages: Sequence[tuple[float, float, str]], password: str | None = None) -> bytes:
    stream = io.BytesIO()
    encrypt = None
    if password is not None:
        encrypt = pdfencrypt.StandardEncryption(password, ownerPassword="owner", strength=128)
    canvas = Canvas(stream, invariant=1, encrypt=encrypt)
    for page in pages:
        for x, y, text in page:
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def _docx() -> tuple[bytes, list[str]]:
    document = Docx()
    document.sections[0].header.paragraphs[0].text = "Header Ltd"
    document.sections[0].footer.paragraphs[0].text = "Footer"
    document.add_paragraph("Before\tthe table")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ("Item", "Qty", "Açúcar\n1 kg", "3"), strict=True):
        cell.text = text
    document.add_paragraph("After")
    stream = io.BytesIO()
    document.save(stream)
    lines = ["Header Ltd", "Before\tthe table", "Item\tQty", "Açúcar 1 kg\t3", "After", "Footer"]
    return stream.getvalue(), lines


def _xlsx() -> bytes:
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    first = workbook.create_sheet("One")
    first.append(["Item", "Price", "Share"])
    first.append(["Açaí", 1250.5, 0.21])
    first["B2"].number_format = '"R$" #,##0.00'
    first["C2"].number_format = "0%"
    first.append([None, "=B2*2", 0.1 + 0.2])
    workbook.create_sheet("Two").append([True, 7])
    stream = io.BytesIO()
    workbook.save(stream)
    return stream.getvalue()


def _replaced(content: bytes, name: str, data: bytes) -> bytes:
    """The ZIP with one entry's data replaced."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.namelist():
            target.writestr(entry, data if entry == name else source.read(entry))
        if name not in source.namelist():
            target.writestr(name, data)
    return stream.getvalue()


# ── PDF ──


def test_pdf_pages_and_rows() -> None:
    content = _pdf(
        [(50, 700, "Widget"), (300, 700, "3"), (400, 700, "1,234.50"), (50, 680, "Bolt")],
        [],
        [(50, 700, "last page")],
    )
    document = load(content, name="a.pdf")
    assert document.text == "Widget  3  1,234.50\nBolt\n\n\n\nlast page"
    shown = [document.text[page.start : page.end] for page in document.pages]
    assert shown == ["Widget  3  1,234.50\nBolt", "", "last page"]
    assert document.metadata["pages_without_text"] == "2"
    assert document.media_type == "application/pdf"


def test_pdf_columns_are_read_one_after_the_other() -> None:
    left = [(50, 700 - 14 * index, f"left line {index}") for index in range(5)]
    right = [(350, 693 - 17 * index, f"right line {index}") for index in range(5)]
    text = load(_pdf([*right, *left]), name="a.pdf").text
    assert text.split() == " ".join(line for _, _, line in left + right).split()


def test_pdf_prose_columns_are_not_glued_though_their_lines_align() -> None:
    page = []
    for index in range(8):
        page.append((40, 700 - 14 * index, f"L{index} the quick brown fox jumps over it"))
        page.append((320, 700 - 14 * index, f"R{index} and the lazy dog sleeps on and on"))
    lines = load(_pdf(page), name="a.pdf").text.splitlines()
    assert [line[:2] for line in lines if line] == [f"{s}{i}" for s in "LR" for i in range(8)]


def test_pdf_table_below_columns_keeps_its_rows() -> None:
    page = [(50, 780 - 13 * index, f"seller {index}") for index in range(3)]
    page += [(400, 774 - 15 * index, f"key {index}") for index in range(3)]
    for index in range(4):
        page += [(50, 600 - 16 * index, f"item{index}"), (400, 600 - 16 * index, f"{index}.00")]
    lines = load(_pdf(page), name="a.pdf").text.splitlines()
    assert [line for line in lines if "item" in line] == [f"item{i}  {i}.00" for i in range(4)]
    assert not any("seller" in line and "key" in line for line in lines)


def test_pdf_captions_stand_beside_their_values_even_with_a_cell_empty() -> None:
    stream = io.BytesIO()
    canvas = Canvas(stream, invariant=1)
    for x, caption, value in ((50, "NAME", "Ana"), (200, "PHONE", ""), (350, "DATE", "02/03/2026")):
        canvas.setFont("Helvetica", 6)
        canvas.drawString(x, 700, caption)
        canvas.setFont("Helvetica", 9)
        canvas.drawString(x, 690, value)
    canvas.save()
    text = load(stream.getvalue(), name="a.pdf").text
    assert text == "NAME Ana  PHONE  DATE 02/03/2026"


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_pdf_turned_pages_read_as_a_viewer_shows_them(turn: int) -> None:
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=(600, 600), invariant=1)
    canvas.setPageRotation(turn)
    # Turn the drawing against the page, so that it is upright for the viewer.
    canvas.translate(300, 300)
    canvas.rotate(turn)
    canvas.translate(-300, -300)
    for y, item in ((500, "first"), (480, "second")):
        canvas.drawString(400, y, f"{y}.00")
        canvas.drawString(60, y, item)
    canvas.save()
    text = load(stream.getvalue(), name="a.pdf").text
    assert text == "first  500.00\nsecond  480.00"


def test_pdf_turned_text_comes_last() -> None:
    stream = io.BytesIO()
    canvas = Canvas(stream, invariant=1)
    canvas.saveState()
    canvas.rotate(90)
    canvas.drawString(300, -30, "margin note")
    canvas.restoreState()
    canvas.drawString(60, 700, "upright")
    canvas.save()
    assert load(stream.getvalue(), name="a.pdf").text == "upright\nmargin note"


def test_pdf_with_an_empty_user_password_opens() -> None:
    assert load(_pdf([(50, 700, "open")], password=""), name="a.pdf").text == "open"


def test_pdf_with_a_password() -> None:
    with pytest.raises(EncryptedDocumentError, match=r"'a\.pdf'.*password"):
        load(_pdf([(50, 700, "shut")], password="secret"), name="a.pdf")


def test_pdf_scan() -> None:
    with pytest.raises(NoTextLayerError, match="OCR"):
        load(_pdf([], []), name="scan.pdf")


def test_pdf_of_300_pages() -> None:
    content = _pdf(*[[(50, 700, "page")]] * 300)
    with pytest.raises(DocumentTooLargeError, match=r"300 pages and 200 are allowed.*max_pages"):
        load(content, name="a.pdf")
    assert len(load(content, name="a.pdf", limits=Limits(max_pages=300)).pages) == 300


@pytest.mark.parametrize("keep", [20, 300])
def test_pdf_cut_short(keep: int) -> None:
    with pytest.raises(CorruptDocumentError, match=r"'a\.pdf'.*(damaged|cut short)"):
        load(_pdf([(50, 700, "text")])[:keep], name="a.pdf")


# ── Office ──


def test_docx_in_reading_order() -> None:
    content, lines = _docx()
    document = load(content, name="a.docx")
    assert document.text.splitlines() == lines
    assert document.pages == []


def test_docx_content_controls_boxes_and_changes() -> None:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f"""<w:document xmlns:w="{space}"><w:body>
      <w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>
      <w:p><w:r><w:t>kept</w:t></w:r><w:ins><w:r><w:t> added</w:t></w:r></w:ins>
        <w:del><w:r><w:t> gone</w:t></w:r></w:del>
        <w:r><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></w:r></w:p>
    </w:body></w:document>"""
    stream = io.BytesIO()
    Docx().save(stream)
    content = _replaced(stream.getvalue(), "word/document.xml", body.encode())
    assert load(content, name="a.docx").text.splitlines() == [
        "in a control",
        "kept added",
        "in a box",
    ]


def test_xlsx_sheets_are_pages() -> None:
    document = load(_xlsx(), name="a.xlsx")
    shown = [document.text[page.start : page.end] for page in document.pages]
    assert shown == ["One\nItem\tPrice\tShare\nAçaí\t1250.50\t21%\n\t=B2*2\t0.3", "Two\nTRUE\t7"]
    assert document.metadata["sheets"] == "One, Two"


def test_xlsx_with_too_many_sheets() -> None:
    with pytest.raises(DocumentTooLargeError, match=r"2 sheets and 1 are allowed.*max_pages"):
        load(_xlsx(), name="a.xlsx", limits=Limits(max_pages=1))


OFFICE = pytest.mark.parametrize(
    ("name", "part"), [("a.docx", "word/document.xml"), ("a.xlsx", "xl/worksheets/sheet1.xml")]
)


def _office(name: str) -> bytes:
    return _docx()[0] if name.endswith("docx") else _xlsx()


@OFFICE
def test_bomb_by_ratio(name: str, part: str) -> None:
    content = _replaced(_office(name), part, b" " * 30_000_000)
    with pytest.raises(DocumentTooLargeError, match="ZIP bomb"):
        load(content, name=name)


@OFFICE
def test_bomb_by_size(name: str, part: str) -> None:
    limits = Limits(max_unzipped_bytes=1000)
    with pytest.raises(DocumentTooLargeError, match="max_unzipped_bytes allows 1000"):
        load(_office(name), name=name, limits=limits)


@OFFICE
def test_bomb_by_entries(name: str, part: str) -> None:
    stream = io.BytesIO(_office(name))
    with zipfile.ZipFile(stream, "a") as archive:
        for index in range(10_001):
            archive.writestr(f"word/{index}", b"")
    with pytest.raises(DocumentTooLargeError, match="entries"):
        load(stream.getvalue(), name=name)


@OFFICE
def test_bomb_that_lies_about_its_size(name: str, part: str) -> None:
    """The directory says 10 bytes; nothing beyond them may be unpacked, and the lie is noticed."""
    content = bytearray(_replaced(_office(name), part, b" " * 30_000_000))
    for signature, length in ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46)):
        place = content.find(signature)
        while content[place + length : place + length + len(part)] != part.encode():
            place = content.find(signature, place + 1)
        struct.pack_into("<I", content, place + (22 if length == 30 else 24), 10)
    with pytest.raises((CorruptDocumentError, DocumentTooLargeError)):
        load(bytes(content), name=name)


def test_nested_bomb_is_not_unpacked() -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b" " * 30_000_000)
    content, lines = _docx()
    nested = _replaced(content, "word/embeddings/inner.zip", inner.getvalue())
    assert load(nested, name="a.docx").text.splitlines() == lines


@OFFICE
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entity_bomb(name: str, part: str, encoding: str) -> None:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {after} "{f"&{before};" * 10}">'
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    )
    xml = f'<?xml version="1.0"?><!DOCTYPE x [{entities}]><x>&i;</x>'
    with pytest.raises(CorruptDocumentError, match="XML entities"):
        load(_replaced(_office(name), part, xml.encode(encoding)), name=name)


@OFFICE
def test_office_damage(name: str, part: str) -> None:
    content = _office(name)
    with pytest.raises(CorruptDocumentError, match=name):
        load(content[: len(content) // 2], name=name)
    with pytest.raises(CorruptDocumentError, match=name):
        load(_replaced(content, part, b"<not-closed>"), name=name)
    with pytest.raises(CorruptDocumentError, match=name):
        load(RANDOM, name=name)


def test_office_file_with_a_password_and_one_from_before_2007() -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    with pytest.raises(EncryptedDocumentError, match="password"):
        load(ole + "EncryptedPackage".encode("utf-16-le"), name="a.docx")
    with pytest.raises(UnsupportedDocumentError, match="before 2007"):
        load(ole, name="a.doc")


# ── Text, CSV, HTML ──


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
        ("latin-1", "cp1252"),
    ],
)
def test_portuguese_text_in_any_charset(encoding: str, charset: str) -> None:
    text = "Recibo nº 12\nSão Paulo, 2 de março: pão, açúcar e café às 10h"
    document = load(text.encode(encoding), name="recibo.txt")
    assert document.text == text
    assert document.metadata["charset"] == charset


def test_windows_quotes_and_cyrillic() -> None:
    western = "“Preço” – R$ 10…  €5"
    assert load(western.encode("cp1252"), name="a.txt").text == western
    russian = "Счёт на оплату за поставленные товары и оказанные услуги по договору поставки"
    assert load(russian.encode("cp1251"), name="a.txt").text == russian


def test_stray_control_characters_are_dropped_not_refused() -> None:
    document = load("MZ\0 pão\xad\x07 de queijo\r\nfim".encode(), name="a.txt")
    assert document.text == "MZ pão de queijo\nfim"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_rows(delimiter: str) -> None:
    lines = [["item", "price"], ["Açaí", "10"], ["Pão", "2"]]
    content = "\r\n".join(delimiter.join(line) for line in lines).encode("latin-1")
    document = load(content, name="a.csv")
    assert document.text == "item\tprice\nAçaí\t10\nPão\t2"
    assert load(content, name="upload", media_type="text/csv; charset=x").text == document.text


def test_html_text() -> None:
    html = """<!doctype html><html><head><title>T</title><style>p {}</style></head><body>
      <script>var hidden</script><h1>Invoice</h1><p>One <b>bold</b>&nbsp;word<br>next</p>
      <div style="display: none">unseen</div>
      <table><tr><th>Item</th><th>Qty</th></tr><tr><td><p>Pão</p></td><td> 3 </td></tr></table>
      <ul><li>a</li><li>b</li></ul></body></html>"""
    document = load(html.encode(), name="page")
    assert document.media_type == "text/html"
    assert document.metadata["title"] == "T"
    expected = "Invoice\n\nOne bold\xa0word\nnext\n\nItem\tQty\nPão\t3\n\na\nb"
    assert document.text == expected


def test_html_declared_charset() -> None:
    html = '<html><meta charset="iso-8859-1"><body>São João</body></html>'
    assert load(html.encode("latin-1"), name="a.html").text == "São João"
    lying = html.replace("iso-8859-1", "utf-8")
    assert load(lying.encode("latin-1"), name="a.html").text == "São João"


def test_html_nested_without_end() -> None:
    depth = 20_000
    for tag in ("div", "table><tr><td"):
        html = f"<html><body>{f'<{tag}>' * depth}deep"
        assert load(html.encode(), name="a.html").text == "deep"


# ── E-mail ──


def test_eml_prefers_plain_text_and_names_attachments() -> None:
    message = EmailMessage()
    message["From"] = "José <jose@example.org>"
    message["To"] = "ana@example.org"
    message["Subject"] = "Orçamento nº 5"
    message["Date"] = "Mon, 02 Mar 2026 09:00:00 +0000"
    message.set_content("Olá,\nsegue o orçamento.")
    message.add_alternative("<p>HTML</p>", subtype="html")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="orçamento.pdf")
    document = load(message.as_bytes(), name="a.eml")
    assert document.text == (
        "From: José <jose@example.org>\nTo: ana@example.org\nSubject: Orçamento nº 5\n"
        "Date: Mon, 02 Mar 2026 09:00:00 +0000\nAttachments: orçamento.pdf\n\n"
        "Olá,\nsegue o orçamento."
    )
    assert document.metadata["attachments"] == "orçamento.pdf"
    assert document.metadata["title"] == "Orçamento nº 5"
    assert load(message.as_bytes(), name="unknown").media_type == "message/rfc822"


def test_eml_html_only() -> None:
    message = EmailMessage()
    message["From"] = "a@example.org"
    message.set_content("<p>Total: <b>5</b></p><p>Bye</p>", subtype="html")
    assert load(message.as_bytes(), name="a.eml").text.endswith("\n\nTotal: 5\n\nBye")


def test_eml_nested_forwarded_and_in_a_charset_nobody_knows() -> None:
    raw = (
        "From: =?iso-8859-1?q?Jo=E3o?= <j@example.org>\r\nSubject: =?x-odd?b?T2zh?=\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n"
        "--A\r\nContent-Type: multipart/related; boundary=B\r\n\r\n"
        "--B\r\nContent-Type: text/plain; charset=x-nobody-knows\r\n\r\nPre\xe7o: 5\r\n--B--\r\n"
        "--A\r\nContent-Type: message/rfc822\r\n\r\n"
        "From: inner@example.org\r\nSubject: Fwd\r\n\r\ninner body\r\n"
        "--A\r\nContent-Disposition: attachment\r\nContent-Type: image/png\r\n\r\nx\r\n--A--\r\n"
    ).encode("latin-1")
    document = load(raw, name="a.eml")
    assert document.text.startswith("From: João <j@example.org>\nSubject: Olá\n")
    assert "Preço: 5\n\nFrom: inner@example.org\nSubject: Fwd\n\ninner body" in document.text
    assert document.metadata["attachments"] == "unnamed image/png"


def test_eml_nested_without_end() -> None:
    parts = "".join(
        f"Content-Type: multipart/mixed; boundary=b{index}\n\n--b{index}\n" for index in range(3000)
    )
    with pytest.raises(CorruptDocumentError, match=r"'a\.eml'"):
        load(f"From: a@example.org\n{parts}\ntext".encode(), name="a.eml")


# ── What is no document ──


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n ", b"\xef\xbb\xbf \0".replace(b"\0", b"")])
def test_nothing_but_white_space(content: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match=r"'a\.txt'"):
        load(content, name="a.txt")


def test_a_name_that_lies_is_told_with_what_is_inside() -> None:
    with pytest.raises(UnsupportedDocumentError, match=r"'a\.pdf' \(called PDF\).*a PNG"):
        load(PNG, name="a.pdf")
    with pytest.raises(UnsupportedDocumentError, match=r"called PDF.*holds an HTML page"):
        load(b"<!DOCTYPE html><p>Please log in", name="upload", media_type="application/pdf")
    with pytest.raises(UnsupportedDocumentError, match=r"called DOCX.*holds plain text"):
        load(b"hello", name="a.docx")


def test_content_wins_over_the_name() -> None:
    assert load(_pdf([(50, 700, "pdf")]), name="a.txt").media_type == "application/pdf"


def test_other_containers_and_random_bytes() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("ppt/presentation.xml", "")
    with pytest.raises(UnsupportedDocumentError, match="a presentation without slides"):
        load(stream.getvalue(), name="a.pptx")
    with pytest.raises(UnsupportedDocumentError, match="unknown binary"):
        load(RANDOM, name="blob")
    with pytest.raises(CorruptDocumentError, match="called PDF"):
        load(RANDOM, name="a.pdf")


def test_too_many_bytes_and_characters() -> None:
    with pytest.raises(DocumentTooLargeError, match=r"6 bytes and 5 are allowed.*max_file_bytes"):
        load(b"abcdef", name="a.txt", limits=Limits(max_bytes=5))
    with pytest.raises(DocumentTooLargeError, match="max_text_chars"):
        load(b"abcdef", name="a.txt", limits=Limits(max_text_chars=5))


def test_limits_from_settings() -> None:
    settings = Settings(max_file_bytes=7, max_pages=8, parse_seconds=9, parse_memory_mb=256)
    limits = Limits.from_settings(settings)
    assert (limits.max_bytes, limits.max_pages, limits.seconds, limits.memory_mb) == (7, 8, 9, 256)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_give_text_or_a_document_error(seed: int) -> None:
    """Bytes changed all over a real file: any outcome is fine except another exception."""
    originals = [_pdf([(50, 700, "text")]), _docx()[0], _xlsx()]
    content = bytearray(originals[seed % 3])
    for step in range(20):
        content[(seed * 7919 + step * 104_729) % len(content)] = (seed * 31 + step * 17) % 256
    try:
        text = load(bytes(content), name="damaged").text
    except DocumentError as error:
        text = str(error)
    assert text.strip()
