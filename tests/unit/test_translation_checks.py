"""A translation is compared with its source by code; what is protected never gets to a model."""

import pytest

from rotina.graphs.language import Language
from rotina.graphs.translation.checks import check
from rotina.graphs.translation.marks import with_marks_of
from rotina.graphs.translation.parts import join, parts
from rotina.graphs.translation.protected import tokens

PT_EN: tuple[Language, Language] = ("pt", "en")
EN_PT: tuple[Language, Language] = ("en", "pt")


def found(
    source: str, translation: str, languages: tuple[Language, Language] = PT_EN
) -> list[tuple[str, str]]:
    return [(kind, what) for kind, what in check(source, translation, languages, {})]


@pytest.mark.parametrize(
    ("source", "translation", "languages"),
    [
        ("Custa R$ 1.234,50.", "It costs R$ 1,234.50.", PT_EN),
        ("Vence em 05/03/2025.", "It is due on 5 March 2025.", PT_EN),
        ("It is due on March 5, 2025.", "Vence em 05/03/2025.", EN_PT),
        ("A loja abre às 9h e fecha às 18h30.", "The store opens at 9 a.m. until 6:30 p.m.", PT_EN),
        ("Recebeu R$ 2,5 milhões.", "It received R$ 2,500,000.", PT_EN),
        ("Há dois motivos.", "There are 2 reasons.", PT_EN),
        ("Entrega em 7 dias úteis.", "Delivery takes 7 working days.", PT_EN),
        ("Abre de segunda a sexta.", "It opens Monday to Friday.", PT_EN),
        ("Em segunda instância, o recurso caiu.", "On second instance the appeal fell.", PT_EN),
        ("Hello {name}, see https://x.example/a.", "Olá {name}, veja https://x.example/a.", EN_PT),
        ("Pague <b>hoje</b> com o código PIX-22.", "Pay <b>today</b> with the code PIX-22.", PT_EN),
        ("You owe %d items (100%).", "Você deve %d itens (100%).", EN_PT),
        ("Um.\n\nDois.", "One.\n\nTwo.", PT_EN),
    ],
)
def test_a_faithful_translation_has_no_problem(
    source: str, translation: str, languages: tuple[Language, Language]
) -> None:
    assert found(source, translation, languages) == []


@pytest.mark.parametrize(
    ("source", "translation", "problems"),
    [
        (
            "Custa R$ 1.234,50.",
            "It costs R$ 1,243.50.",
            [("missing", "1.234,50"), ("invented", "1,243.50")],
        ),
        (
            "Custa R$ 50.",
            "It costs $50.",
            [("missing", "50"), ("invented", "50")],
        ),
        (
            "Vence em 05/03/2025.",
            "It is due on 3 May 2025.",
            [("missing", "05/03/2025"), ("invented", "3 May 2025")],
        ),
        (
            "Abre na terça-feira.",
            "It opens on Thursday.",
            [("missing", "terça-feira"), ("invented", "Thursday")],
        ),
        (
            "Olá, {nome}!",
            "Hello, {name}!",
            [("missing", "{nome}"), ("invented", "{name}")],
        ),
        ("Olá, {nome} e {nome}!", "Hello, {nome}!", [("missing", "{nome}")]),
        ("Veja <b>isto</b>.", "See <b>this.", [("missing", "</b>")]),
        (
            "Pedido PX-2231.",
            "Order PX-2213.",
            [("missing", "PX-2231"), ("invented", "PX-2213")],
        ),
        ("Um.\n\nDois.", "One. Two.", [("paragraphs", "2 in the source, 1 in the translation")]),
        (
            "O pedido foi enviado ontem para o cliente.",
            "O pedido foi enviado ontem para o cliente.",
            [("language", "not written in English")],
        ),
        (
            "Este é um texto bem comprido. " * 10,
            "This is a long text.",
            [("length", "300 characters became 20")],
        ),
    ],
)
def test_what_differs_is_told(
    source: str, translation: str, problems: list[tuple[str, str]]
) -> None:
    assert found(source, translation) == problems


def test_a_term_of_the_glossary_must_be_used() -> None:
    glossary: dict[str, dict[Language, str]] = {"slip": {"pt": "boleto", "en": "bank slip"}}
    source = "Pague o boleto."
    assert check(source, "Pay the bank slip.", PT_EN, glossary) == []
    (finding,) = check(source, "Pay the ticket.", PT_EN, glossary)
    assert finding == ("glossary", "bank slip")
    assert check("Pague já.", "Pay now.", PT_EN, glossary) == []


@pytest.mark.parametrize(
    ("source", "translation", "languages", "written"),
    [
        (
            "Caiu 2.300 t, a R$ 48,7 milhões, ou 1.234,50.",
            "It fell 2.300 t, to R$ 48,7 million, or 1.234,50.",
            PT_EN,
            "It fell 2,300 t, to R$ 48.7 million, or 1,234.50.",
        ),
        ("It is 1,500.5 m.", "São 1,500.5 m.", EN_PT, "São 1.500,5 m."),
        ("São 2.300.", "It is 2,300.", PT_EN, "It is 2,300."),
        ("Versão 1.2.3 em 05.03.2025.", "Version 1.2.3 on 05.03.2025.", PT_EN, None),
        ("`1,5` {1,5} e R$ 1,5", "`1,5` {1,5} and R$ 1,5", PT_EN, "`1,5` {1,5} and R$ 1.5"),
        ("Vê http://x.example/1,5", "See http://x.example/1,5", PT_EN, None),
        ("De 1.500 a 1,500", "From 1.500 to 1,500", PT_EN, None),
        ("Item A1,5", "Item A1,5", PT_EN, None),
        ("Nada.", "It is 3,5.", PT_EN, None),
    ],
)
def test_copied_numbers_get_the_marks_of_the_language(
    source: str, translation: str, languages: tuple[Language, Language], written: str | None
) -> None:
    assert with_marks_of(translation, source, languages) == (written or translation)


MARKDOWN = """# Título

Um parágrafo com `código` e [um link](https://x.example/a_b).

```python
print("não traduza {isto}")
```

---

1.  Primeiro
2.  Segundo

"""


@pytest.mark.parametrize("limit", [20, 60, 4000])
def test_parts_hold_the_words_and_nothing_between_them_changes(limit: int) -> None:
    spans = parts(MARKDOWN, limit)
    texts = [MARKDOWN[span["start"] : span["end"]] for span in spans]
    assert join(MARKDOWN, spans, texts) == MARKDOWN
    assert not any("print" in text for text in texts), "blocks of code are not sent"
    assert all(text == text.strip() and text for text in texts)
    assert "Título" in texts[0]
    assert join(MARKDOWN, spans, ["x"] * len(spans)).count("print(") == 1


@pytest.mark.parametrize("text", ["", "  \n", "12,50 — 3", "```\ncode\n```", "{a} %s <br/>"])
def test_what_has_no_words_is_not_sent(text: str) -> None:
    assert parts(text, 100) == []


def test_what_is_protected() -> None:
    text = "Olá {nome}, {{x}} ${y} %(n)s %s `a b` <i>a</i> [b](http://c.example/d) e@f.example 5%"
    assert sorted(tokens(text)) == sorted(
        [
            *("{nome}", "{{x}}", "${y}", "%(n)s", "%s", "`a b`", "<i>", "</i>"),
            *("http://c.example/d", "e@f.example"),
        ]
    )
