"""Chunks are spans of the document's text, bounded, in order, and cover every word."""

import itertools
from pathlib import Path

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rotina.gateway import Gateway
from rotina.gateway.room import Room
from rotina.knowledge import Chunk, Document, Heading, Page, chunk
from rotina.knowledge.chunking import with_context
from rotina.knowledge.words import fold, guess_language
from rotina.settings import Deployment, Route, Settings

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


CLUSTERS = [
    "a\u0301\u0323", "e\u0301", "👩\u200d👩\u200d👧", "👍🏽", "❤\ufe0f", "🇧🇷", "각", "क्षि",
    "ש\u05b8", "\r\n", " \u0301", "\u0600 ", "\u0600", "。\ufe00", ". ", "! ”", " ", "\n", "\n\n",
    "\t", "\u200d", "x",
]  # fmt: skip


@given(st.lists(st.sampled_from(CLUSTERS), max_size=120), st.integers(0, 8))
def test_no_cut_inside_a_character_that_people_see(parts: list[str], overlap: int) -> None:
    text = "".join(parts)
    boundaries = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    longest = max((len(cluster) for cluster in regex.findall(r"\X", text)), default=0)
    assume(longest <= 12)
    for each in chunk(document(text), limit=24, overlap=overlap):
        assert {each.start, each.end} <= boundaries
        assert text[each.start : each.end] == each.text
        assert each.text.strip()


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


def test_numbered_headings_are_told_from_lists() -> None:
    text = (
        "1. Introduction\n\nSome text.\n\n1.1 Scope\n\nMore text.\n\n2. Terms\n\n"
        "1. First thing\n2. Second thing\n\n1. Loose one\n\n2. Loose two\n\nThe end."
    )
    found = chunk(document(text), limit=40, overlap=0)
    assert [each.headings for each in found if "text" in each.text] == [
        ("1. Introduction",), ("1. Introduction", "1.1 Scope"),
    ]  # fmt: skip
    assert {each.headings for each in found if "thing" in each.text} == {("2. Terms",)}
    letter = "Dear Ana,\n\n12 March 2020\n\nHello.\n\n3 Greetings\n\nBye."
    assert [each.headings for each in chunk(document(letter))] == [(), ("3 Greetings",)]


def test_underlined_headings() -> None:
    found = chunk(document("Title\n=====\n\nText.\n\nPart\n----\n\nMore."))
    assert [(each.headings, each.text[-5:]) for each in found] == [
        (("Title",), "Text."), (("Title", "Part"), "More."),
    ]  # fmt: skip


def test_headings_of_the_format_are_the_only_ones() -> None:
    text = "Big one\n# no heading here\n\nSmall one\nText."
    given_headings = [Heading(level=1, start=0, end=7), Heading(level=3, start=27, end=36)]
    made = document(text).model_copy(update={"headings": given_headings})
    assert [(each.headings, each.context) for each in chunk(made)] == [
        (("Big one",), "Big one"), (("Big one", "Small one"), "Big one › Small one"),
    ]  # fmt: skip


@pytest.mark.parametrize("gap", ["\t", "  "])
def test_tables_are_cut_between_rows_under_the_names_of_their_columns(gap: str) -> None:
    rows = [f"Dr. Item {n} e mais{gap}{n},50{gap}Sim. Ou não." for n in range(12)]
    text = "\n".join(["Before the table.", "", f"Nome{gap}Preço{gap}Nota", *rows, "", "After it."])
    found = chunk(document(text, title="Lista"), limit=120, overlap=30)
    inside = [each for each in found if "Item" in each.text]
    lines = [line for each in inside for line in each.text.split("\n")]
    assert [line for line in lines if "Item" in line] == rows
    for each in inside:
        above = "" if "Nome" in each.text else f"\nNome{gap}Preço{gap}Nota"
        assert each.context == f"Lista{above}"


def test_a_table_of_values_alone_has_no_header() -> None:
    text = "\n".join(f"{n}\t{n * n}" for n in range(40))
    assert {each.context for each in chunk(document(text), limit=60, overlap=0)} == {""}


def test_a_row_that_is_too_long_is_cut_between_its_cells() -> None:
    cells = ["Uma célula, com texto.", "Outra célula, com mais texto.", "A última."]
    assert texts("\t".join(cells) + "\na\tb", limit=36) == [*cells[:2], "A última.\na\tb"]


def test_markdown_tables() -> None:
    rows = [f"| item {n} | {n}.00 |" for n in range(10)]
    text = "\n".join(["| Name | Price |", "|------|:-----:|", *rows])
    found = chunk(document(text), limit=80, overlap=20)
    assert len(found) > 2
    assert {each.context for each in found[1:]} == {"| Name | Price |"}
    assert [line for each in found for line in each.text.split("\n")][2:] == rows


def test_list_items_stay_whole_and_under_what_announces_them() -> None:
    text = "Intro that is long enough.\n\nYou need:\n- one thing to bring\n- another thing here"
    assert texts(text, limit=50) == [
        "Intro that is long enough.", "You need:\n- one thing to bring", "- another thing here",
    ]  # fmt: skip
    assert texts("1. Um passo aqui.\n2. Outro passo aqui.", limit=22) == [
        "1. Um passo aqui.", "2. Outro passo aqui.",
    ]  # fmt: skip


def test_a_sentence_over_several_lines_is_not_parted_at_their_ends() -> None:
    text = "This sentence goes on over\ntwo lines. And the next one\nis here."
    assert texts(text, limit=45) == [
        "This sentence goes on over\ntwo lines.", "And the next one\nis here.",
    ]  # fmt: skip


def room(context: int, tokenizer: str | None = None) -> Room:
    return Room([Deployment(model="m", context=context, tokenizer=tokenizer)], Path())


@pytest.mark.parametrize("tokenizer", [None, "cl100k_base"])
@given(
    text=st.lists(ALPHABET, min_size=200, max_size=600).map("".join),
    heading=st.text("ab漢", max_size=300),
)
@settings(max_examples=25, deadline=None)
def test_chunks_and_their_contexts_fit_the_embedding_model(
    tokenizer: str | None, text: str, heading: str
) -> None:
    small = room(256, tokenizer)
    chunks = chunk(document(f"# {heading}.\n\n{text}", title=heading), limit=900, room=small)
    assert all(small.holds(with_context(each.context, each.text)) for each in chunks)
    covered = {place for each in chunks for place in range(each.start, each.end)}
    whole = f"# {heading}.\n\n{text}"
    assert all(c.isspace() for place, c in enumerate(whole) if place not in covered)


def test_the_smallest_context_counts_and_a_model_with_room_changes_nothing() -> None:
    text = "语言" * 600
    large, small = room(8192), room(256)
    assert chunk(document(text), room=large) == chunk(document(text))
    assert len(chunk(document(text), room=small)) > len(chunk(document(text)))
    both = Room([Deployment(model="a", context=512), Deployment(model="b", context=256)], Path())
    assert both.tokens == 256


def test_the_gateway_says_what_a_route_reads() -> None:
    declared = Settings(
        deployments={
            "a": Deployment(model="a", context=512), "b": Deployment(model="b", context=300),
            "c": Deployment(model="c", context=256),
        },
        routes={"embed": Route(deployments=["a", "b"])},
    )  # fmt: skip
    small = Gateway(declared).room("embed")
    assert small.tokens == 300
    assert small.holds("word " * 50)
    assert not small.holds("word " * 50, share=8)
    assert not small.holds("語" * 300)


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
