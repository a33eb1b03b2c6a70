"""Pictures and scans, read by the models of the extra `ocr`."""

import io
from pathlib import Path

import pytest
import reportlab
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from rotina.cli.knowledge import _files
from rotina.errors import (
    CorruptDocumentError,
    DocumentTooLargeError,
    NoTextLayerError,
    UnsupportedDocumentError,
)
from rotina.knowledge.loading import Limits, load, load_in_child, ocr

FONT = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
LINES = ["A inscrição é gratuita até 2 de março.", "Item|Preço", "Açaí|R$ 12,50"]
TEXT = "A inscrição é gratuita até 2 de março.\nItem  Preço\nAçaí  R$ 12,50"


def picture(*lines: str, mode: str = "RGB", turn: int = 0) -> Image.Image:
    """Lines of text, cells parted by bars, black on white."""
    made = Image.new("RGB", (520, 520), "white")  # squares are read fastest
    draw = ImageDraw.Draw(made)
    font = ImageFont.truetype(str(FONT), 22)
    for number, line in enumerate(lines):
        for column, cell in enumerate(line.split("|")):
            draw.text((30 + 240 * column, 40 + 40 * number), cell, font=font, fill="black")
    return made.rotate(turn, expand=True, fillcolor="white").convert(mode)


def saved(made: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    made.save(stream, kind, **options)
    return stream.getvalue()


def scan(*pages: Image.Image | None) -> bytes:
    """A PDF of pictures; None is a page of text."""
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=(260, 260), invariant=1)
    for page in pages:
        if page is None:
            canvas.drawString(50, 200, "typed")
        else:
            canvas.drawImage(ImageReader(page), 5, 5, width=250, height=250)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_every_kind_of_picture(kind: str) -> None:
    document = load(saved(picture(*LINES), kind), name=f"a.{kind.lower()}")
    assert document.text == TEXT
    assert document.media_type == f"image/{kind.lower()}"
    assert document.metadata["read_by"] == "ocr"
    assert document.pages == []


def test_the_frames_of_a_tiff_are_pages() -> None:
    frames = [picture("first page"), picture("second page", mode="1")]
    content = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    document = load(content, name="a.tif")
    assert document.text == "first page\n\nsecond page"
    assert document.page_of(document.text.index("second")) == 2
    with pytest.raises(DocumentTooLargeError, match=r"2 pages and 1 are allowed.*max_pages"):
        load(content, name="a.tif", limits=Limits(max_pages=1))


def test_a_photograph_that_says_how_it_was_held() -> None:
    turned = picture("held upright", turn=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load(saved(turned, "JPEG", exif=exif), name="a.jpg").text == "held upright"


def test_a_picture_that_is_transparent() -> None:
    made = picture("seen on white")
    mask = made.convert("L").point(lambda value: 255 - value)
    clear = Image.new("RGBA", made.size, (0, 0, 0, 0))
    clear.paste("black", mask=mask)
    assert load(saved(clear, "PNG"), name="a.png").text == "seen on white"


def test_a_scanned_pdf() -> None:
    document = load(scan(picture("scanned page"), None, picture("another scan")), name="a.pdf")
    assert [document.text[page.start : page.end] for page in document.pages] == [
        "scanned page", "typed", "another scan",
    ]  # fmt: skip
    assert document.metadata["pages_by_ocr"] == "1, 3"
    assert "pages_without_text" not in document.metadata


def test_a_scan_on_which_nothing_is_written() -> None:
    blank = Image.new("RGB", (300, 300), "white")
    with pytest.raises(NoTextLayerError, match=r"'a\.pdf'.*OCR finds none"):
        load(scan(blank), name="a.pdf")
    with pytest.raises(NoTextLayerError, match=r"'a\.png'.*nothing can be read"):
        load(saved(blank, "PNG"), name="a.png")


async def test_in_a_child_with_its_limits() -> None:
    document = await load_in_child(saved(picture(*LINES), "PNG"), name="a.png")
    assert document.text == TEXT


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedDocumentError, match=r"'a\.png'.*'rotina\[ocr\]'"):
        load(saved(picture("text"), "PNG"), name="a.png")
    with pytest.raises(NoTextLayerError, match=r"'a\.pdf' is a scan.*'rotina\[ocr\]'"):
        load(scan(picture("text")), name="a.pdf")


def test_bombs_and_damage() -> None:
    wide = saved(Image.new("1", (10_000, 6_000)), "PNG")
    with pytest.raises(DocumentTooLargeError, match=r"10000 x 6000 pixels and 50000000"):
        load(wide, name="a.png")
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(DocumentTooLargeError, match="bomb"):
        load(bomb, name="a.png")
    content = saved(picture("text"), "PNG")
    for damaged in (content[:40], content[: len(content) // 2]):
        with pytest.raises(CorruptDocumentError, match=r"'a\.png'"):
            load(damaged, name="a.png")
    with pytest.raises(CorruptDocumentError, match=r"called PNG.*does not begin"):
        load(bytes(5000), name="a.png")
    with pytest.raises(UnsupportedDocumentError, match=r"called PNG.*plain text"):
        load(b"text", name="a.png")


def test_a_picture_may_be_called_another_kind_of_picture_but_no_document() -> None:
    content = saved(picture("text"), "PNG")
    assert load(content, name="a.jpg").media_type == "image/png"
    with pytest.raises(UnsupportedDocumentError, match=r"'a\.docx' \(called DOCX\).*a PNG image"):
        load(content, name="a.docx")


def test_a_folders_pictures_are_taken_where_they_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.md", "b.pptx", "c.PNG", "d.exe"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in _files((tmp_path,))] == ["a.md", "b.pptx", "c.PNG"]
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    assert [path.name for path in _files((tmp_path,))] == ["a.md", "b.pptx"]
