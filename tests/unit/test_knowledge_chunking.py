"""Chunks are spans of the document's text, bounded, in order, and cover every word."""

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotina.knowledge import Chunk, Document, Page, chunk
from rotina.knowledge.words import fold, guess_language

LETTERS = [
    "a",
    "ç",
    "ã",
    "e\u0301",
    "o\u0303",
    "語",
    "ש",
    "👩\u200d👩\u200d👧",
    "👍🏽",
    "\U00020000",
    "ﬁ",
    "İ",
]
MARKS = [
    " ",
    " ",
    "\n",
    "\n\n",
    "\t",
    ". ",
    "! ",
    "? ”",
    "# ",
    "## Tí",
    "```\n",
    "1",
    ",",
    "\u200b",
]
ALPHABET = st.sampled_from([*LETTERS, *MARKS])


def document(text: str, pages: list[Page] | None = None, title: str | None = None) -> Document:
    metadata = {"title": title} if title else {}
    return Document(
        name="a.md", media_type="text/markdown", sha256="0" * 64, text=text,
        pages=pages or [], metadata=metadata,
    )  # fmt: skip


def texts(given_text: str, limit: int = 800, overlap: int = 0) -> list[str]:
    return [each.text for each in chunk(document(given_text), limit=limit, overlap=overlap)]


@given(st.lists(ALPHABET, max_size=400), st.integers(10, 80), st.integers(0, 5))
def test_spans_are_exact_bounded_ordered_and_cover_everything(
    parts: list[str], limit: int, overlap: int
) -> None:
    text = "".join(parts)
    chunks = chunk(document(text), limit=limit, overlap=overlap)
    covered: set[int] = set()
    for each in chunks:
        assert text[each.start : each.end] == each.text
        assert 0 < len(each.text) <= limit
        assert each.text == each.text.strip()
        covered.update(range(each.start, each.end))
    assert all(before.start < after.start for before, after in itertools.pairwise(chunks))
    assert all(before.end < after.end for before, after in itertools.pairwise(chunks))
    missed = [text[i] for i in range(len(text)) if i not in covered]
    assert all(character.isspace() for character in missed)


@given(
    st.lists(
        st.sampled_from(["a\u0301\u0323", "e\u0301", "👩‍👩‍👧", "👍🏽", "❤\ufe0f"]), max_size=60
    )
)
def test_no_cut_inside_a_character_that_people_see(parts: list[str]) -> None:
    text = "".join(parts)
    for each in chunk(document(text), limit=20, overlap=0):
        assert unicodedata.combining(each.text[0]) == 0
        assert each.text[0] not in "\u200d\ufe0f🏽"


def test_a_word_longer_than_a_chunk_is_cut_where_it_must() -> None:
    assert texts("x" * 25, limit=10) == ["x" * 10, "x" * 10, "x" * 5]
    assert texts("a" + "\u0301" * 30, limit=10)[0] == "a" + "\u0301" * 9


def test_paragraphs_stay_whole_and_sentences_do_when_they_cannot() -> None:
    first, second = "One sentence. Two sentences.", "Três frases. Quatro."
    assert texts(f"{first}\n\n{second}", limit=45) == [first, second]
    assert texts("Um dois três. Quatro cinco seis. Sete oito.", limit=20) == [
        "Um dois três.", "Quatro cinco seis.", "Sete oito.",
    ]  # fmt: skip
    assert texts("Veja o art. 5 da lei. Dr. Silva veio. Outra frase aqui.", limit=36) == [
        "Veja o art. 5 da lei.", "Dr. Silva veio. Outra frase aqui.",
    ]  # fmt: skip


def test_chunks_overlap_by_whole_sentences() -> None:
    text = "Aa bb cc. Dd ee ff. Gg hh ii. Jj kk ll."
    assert texts(text, limit=20, overlap=10) == [
        "Aa bb cc. Dd ee ff.", "Dd ee ff. Gg hh ii.", "Gg hh ii. Jj kk ll.",
    ]  # fmt: skip


def test_headings_part_chunks_and_are_their_context() -> None:
    text = (
        "# Refunds\n\n## Deadlines\n\nSeven days.\n\n## Capítulo 2\n\nTexto.\n\n"
        "```\n# no heading\n```\n\n# Other\nEnd."
    )
    found = chunk(document(text, title="Manual"))
    assert [(each.context, each.text) for each in found] == [
        ("Manual › Refunds › Deadlines", "# Refunds\n\n## Deadlines\n\nSeven days."),
        ("Manual › Refunds › Capítulo 2", "## Capítulo 2\n\nTexto.\n\n```\n# no heading\n```"),
        ("Manual › Other", "# Other\nEnd."),
    ]


def test_named_headings_in_both_languages() -> None:
    found = chunk(document("CAPÍTULO II - Das provas\nTexto um.\nChapter 3 Exams\nText two."))
    assert [each.context for each in found] == ["CAPÍTULO II - Das provas", "Chapter 3 Exams"]


def test_pages() -> None:
    pages = [Page(number=1, start=0, end=10), Page(number=2, start=11, end=20)]
    text = "Page one.\n\nPage two."
    found = chunk(document(text, pages), limit=10, overlap=0)
    assert [(each.text, each.page) for each in found] == [("Page one.", 1), ("Page two.", 2)]
    assert chunk(document("No pages."))[0].page is None


def test_nothing_comes_of_nothing() -> None:
    assert chunk(document("")) == []
    assert chunk(document(" \n\t\n ")) == []


@pytest.mark.parametrize("overlap", [-1, 6])
def test_an_overlap_that_makes_no_sense(overlap: int) -> None:
    with pytest.raises(ValueError, match=rf"overlap is {overlap}: choose 0 to 5"):
        chunk(document("text"), limit=10, overlap=overlap)


def test_hostile_texts_take_linear_time() -> None:
    """Megabytes of what a careless expression is quadratic on; the suite's time-out watches."""
    for text in ("# " * 500_000, "```\n" * 300_000, "a." * 500_000, "\n \n" * 300_000, "”" * 10**6):
        chunks = chunk(document(text))
        assert all(isinstance(each, Chunk) for each in chunks)


def test_words_are_the_same_however_they_are_typed() -> None:
    words = ["inscricao", "nao", "e", "gratuita", "12", "500"]
    assert fold("“Inscrição” NÃO é—gratuita: 12.500") == words
    assert fold("Inscric\u0327a\u0303o na\u0303o e\u0301 GRATUITA 12,500") == words
    assert fold("\x00 \ud800 ___ …") == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Qual é o prazo para devolução de um produto?", "pt"),
        ("What is the deadline to return a product?", "en"),
        ("", "en"),
        ("12345", "en"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert guess_language(text) == language
