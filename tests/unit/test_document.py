"""The maps from characters to lines and pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rotina.errors import DocumentTooLargeError
from rotina.knowledge.document import Document, Page
from rotina.knowledge.loading.text import assemble, clean, heading, row, tidy, unmarked

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ANY_TEXT = st.text(st.characters())
"""Lone surrogates too: a broken PDF or e-mail holds them."""


def _document(text: str, *pages: tuple[int, int, int]) -> Document:
    spans = [Page(number=number, start=start, end=end) for number, start, end in pages]
    return Document(name="a.txt", media_type="text/plain", sha256="0", text=text, pages=spans)


def test_lines_count_from_one() -> None:
    document = _document("ab\ncd\n\nef")
    assert [document.line_of(offset) for offset in (0, 2, 3, 6, 7)] == [1, 1, 2, 3, 4]


def test_pages_of_offsets() -> None:
    document = _document("one\n\ntwo", (1, 0, 3), (2, 5, 8))
    assert [document.page_of(offset) for offset in (0, 2, 5, 7)] == [1, 1, 2, 2]
    assert _document("one").page_of(0) is None


@pytest.mark.parametrize(
    "pages",
    [[(1, 0, 9)], [(1, 2, 1)], [(1, 0, 2), (2, 1, 3)], [(2, 0, 1), (1, 1, 2)]],
)
def test_pages_outside_the_text_or_over_each_other_are_refused(
    pages: list[tuple[int, int, int]],
) -> None:
    with pytest.raises(ValidationError, match="page"):
        _document("text", *pages)


@given(st.lists(ANY_TEXT, max_size=6))
def test_pages_are_ordered_apart_and_inside(texts: list[str]) -> None:
    found = assemble(texts, max_chars=10_000)
    text, pages = found.text, found.pages
    assert [page.number for page in pages] == list(range(1, len(texts) + 1))
    reached = 0
    for page, raw in zip(pages, texts, strict=True):
        assert reached <= page.start <= page.end <= len(text)
        assert text[page.start : page.end] == unmarked(tidy(raw))
        reached = page.end
    document = Document(name="n", media_type="m", sha256="0", text=text, pages=pages)
    for page in pages:
        if page.start < page.end:
            assert {document.page_of(page.start), document.page_of(page.end - 1)} == {page.number}


@given(ANY_TEXT)
def test_clean_text_survives_utf_8_and_has_one_kind_of_line_end(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.encode().decode() == cleaned
    assert not set(cleaned) & set("\0\r\f\v\x85\u2028\u2029\xad\ufeff")
    assert clean(cleaned) == cleaned
    assert tidy(tidy(text)) == tidy(text)


def test_clean_keeps_what_carries_meaning() -> None:
    family = "👩\u200d👩\u200d👧"
    assert clean(f"{family} שלום e\u0301") == f"{family} שלום e\u0301"
    assert clean("\ud83d\ude00 \ud83d") == "😀 "
    assert clean("a\0b\xadc\r\nd\re\u2028f") == "abc\nd\ne\nf"


def test_tidy_collapses_gaps_but_not_indentation() -> None:
    assert tidy("  - item     3   \n\n\n\n    code  x") == "  - item  3\n\n    code  x"


def test_a_row_keeps_one_line_unless_its_cells_are_blocks() -> None:
    assert row(["Lamp\nred", "3", ""]) == "Lamp red\t3"
    assert row(["a\nb\nc\nd", "e\nf"]) == "a\nb\nc\nd\ne\nf"


@given(st.lists(st.tuples(TEXT, st.integers(1, 9), TEXT), max_size=6))
def test_headings_are_found_and_leave_no_mark(parts: list[tuple[str, int, str]]) -> None:
    raw = [
        "\n".join([unmarked(text), heading(unmarked(title), level)]) for title, level, text in parts
    ]
    found = assemble(raw, max_chars=100_000)
    expected = [(unmarked(clean(title)).strip(), level) for title, level, _ in parts]
    shown = [(found.text[each.start : each.end].strip(), each.level) for each in found.headings]
    assert [level for _, level in shown] == [level for title, level in expected if title]
    assert "".join(title for title, _ in shown).split() == (
        "".join(title for title, _ in expected).split()
    )
    assert found.text == unmarked(found.text)


def test_a_mark_that_is_never_closed_is_no_heading() -> None:
    found = assemble(["\ufdd1open \ufdefshut\ufdef \ufdd2never", "\ufdd3\ufdef"], max_chars=100)
    assert found.text == "open shut never\n\n"
    assert [(each.start, each.end) for each in found.headings] == [(0, 5)]


def test_a_text_that_is_too_long_names_the_limit() -> None:
    with pytest.raises(DocumentTooLargeError, match="max_text_chars"):
        assemble(["abc", "def"], max_chars=5)
