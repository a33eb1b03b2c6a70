"""Every chunk of every format is a span of the document's text, and cuts no character."""

import csv
import io
import json
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from html import escape
from pathlib import Path

import pytest
import regex
import reportlab
from docx import Document as Docx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from rotina.knowledge import Document, chunk
from rotina.knowledge.loading import load
from tests.compound_file import compound_file, properties, texts

WORDS = [
    "Inscrição", "açúcar", "coração", "re\u0301sume\u0301", "nin\u0303o", "שלום", "ש\u05b8לום",
    "مرحبا", "بِسْمِ", "漢字", "かな", "각", "क्षि", "नमस्ते", "ไทย", "👍🏽",
    "👩\u200d👩\u200d👧", "🇧🇷🇵🇹", "❤\ufe0f", "𝒳", "word", "fim.",
    "Really?", "R$ 12,50", "art. 5", "“Sim.”", "e\u0301\u0323\u0302",
]  # fmt: skip
LATIN = [
    "Inscrição",
    "açúcar",
    "re\u0301sume\u0301",
    "word",
    "fim.",
    "R$ 12,50",
    "art. 5",
    "Ünïcödé",
]


def lines_of(words: list[str]) -> st.SearchStrategy[list[str]]:
    spaced = st.lists(st.sampled_from(words), min_size=1, max_size=12).map(" ".join)
    glued = st.lists(st.sampled_from(words), min_size=1, max_size=40).map("".join)
    return st.lists(spaced | glued, min_size=1, max_size=25)


LINES = lines_of(WORDS)


def _docx(lines: list[str]) -> bytes:
    made = Docx()
    made.add_heading(lines[0], 1)
    for line in lines:
        made.add_paragraph(line)
    table = made.add_table(rows=0, cols=2)
    for line in lines:
        for cell, text in zip(table.add_row().cells, (line, "1"), strict=True):
            cell.text = text
    return _saved(made.save)


def _pptx(lines: list[str]) -> bytes:
    made = Presentation()
    for line in [*lines[:3], lines[0]]:
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = line
        slide.placeholders[1].text = "\n".join(lines)
    slide = made.slides[0]
    table = slide.shapes.add_table(len(lines), 1, Inches(1), Inches(1), Inches(1), Inches(1)).table
    for cell, line in zip(table.iter_cells(), lines, strict=True):
        cell.text = line
    return _saved(made.save)


def _xlsx(lines: list[str]) -> bytes:
    made = Workbook()
    made.remove(made.worksheets[0])
    for title in ("One", "Two"):
        sheet = made.create_sheet(title)
        for line in lines:
            sheet.append([line, 1])
    return _saved(made.save)


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _csv(lines: list[str]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([line, "1"] for line in ["name", *lines])
    return stream.getvalue().encode()


def _html(lines: list[str]) -> bytes:
    parts = "".join(f"<h2>{escape(line)}</h2><p>{escape(line)}</p>" for line in lines)
    rows = "".join(f"<tr><td>{escape(line)}</td><td>1</td></tr>" for line in lines)
    return f"<html><body>{parts}<table>{rows}</table></body></html>".encode()


def _eml(lines: list[str]) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = "a@example.org"
    message["Subject"] = lines[0]
    message.set_content("\n".join(lines))
    return message.as_bytes()


def _msg(lines: list[str]) -> bytes:
    streams = texts(p0037=lines[0], p1000="\r\n".join(lines))
    return compound_file({"__properties_version1.0": properties(32), **streams})


def _pdf(lines: list[str]) -> bytes:
    registerFont(TTFont("Vera", str(Path(reportlab.__file__).parent / "fonts" / "Vera.ttf")))
    stream = io.BytesIO()
    canvas = Canvas(stream, invariant=1)
    for _ in range(2):
        canvas.setFont("Vera", 9)
        for number, line in enumerate(lines):
            canvas.drawString(50, 800 - 14 * number, line)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


MAKERS: dict[str, Callable[[list[str]], bytes]] = {
    "a.docx": _docx,
    "a.pptx": _pptx,
    "a.xlsx": _xlsx,
    "a.csv": _csv,
    "a.html": _html,
    "a.eml": _eml,
    "a.msg": _msg,
    "a.json": lambda lines: json.dumps({"all": lines, lines[0]: {"x": lines}}).encode(),
    "a.jsonl": lambda lines: "\n".join(json.dumps({"x": line}) for line in lines).encode(),
    "a.md": lambda lines: "\n\n".join(f"## {line}\n\n{line}" for line in lines).encode(),
    "a.txt": lambda lines: "\n".join(lines).encode("utf-16"),
}


def check(document: Document, limit: int) -> None:
    """All that is promised of chunks."""
    text = document.text
    boundaries = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    chunks = chunk(document, limit=limit, overlap=limit // 5)
    covered: set[int] = set()
    for each in chunks:
        assert text[each.start : each.end] == each.text
        assert 0 < len(each.text) <= limit
        assert {each.start, each.end} <= boundaries
        assert each.page == document.page_of(each.start)
        covered.update(range(each.start, each.end))
    assert all(c.isspace() for place, c in enumerate(text) if place not in covered)
    for heading in document.headings:
        assert text[heading.start : heading.end].strip()
    for page in document.pages:
        assert 0 <= page.start <= page.end <= len(text)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=LINES, limit=st.integers(30, 300))
def test_chunks_of_every_format_are_spans_of_its_text(
    name: str, lines: list[str], limit: int
) -> None:
    document = load(MAKERS[name](lines), name=name)
    check(document, limit)
    # The loader's text, too, is what the file says.
    said = "".join(document.text.split())
    assert "".join(lines[-1].split()) in said


@settings(max_examples=40, deadline=None)
@given(lines=lines_of(LATIN), limit=st.integers(30, 300))
def test_chunks_of_pdf_pages_are_spans_of_its_text(lines: list[str], limit: int) -> None:
    check(load(_pdf(lines), name="a.pdf"), limit)


@pytest.mark.parametrize(
    ("name", "level"), [("a.docx", 2), ("a.pptx", 1), ("a.xlsx", 1), ("a.html", 2)]
)
def test_formats_that_mark_headings_say_where_they_are(name: str, level: int) -> None:
    document = load(MAKERS[name](["Coração 👍🏽", "other"]), name=name)
    first = document.headings[0]
    shown = document.text[first.start : first.end]
    assert (shown, first.level) == ("One" if name == "a.xlsx" else "Coração 👍🏽", level)
    assert chunk(document)[0].headings == (shown,)
