"""Words that carry facts in English and Portuguese: units, number words, weekdays, negations.

All are written as `plain` leaves text: lower case, without accents.
"""

import re
import unicodedata
from collections.abc import Mapping

_KEPT = "ºª°"


def plain(text: str) -> str:
    """The text in lower case and without accents, composed first (Unicode's form NFC)."""
    return aligned(unicodedata.normalize("NFC", text))


def aligned(text: str) -> str:
    """The text in lower case and without accents, one character for each: offsets stay."""
    return "".join(map(_plain, text))


def _plain(character: str) -> str:
    if character in _KEPT or character.isascii():
        return character.lower()[0]
    return unicodedata.normalize("NFD", character)[0].lower()[0]


def _named(table: Mapping[str, str]) -> dict[str, str]:
    return {word: name for name, words in table.items() for word in words.split()}


UNITS = _named(
    {
        "minute": "minute minutes min minuto minutos",
        "hour": "hour hours hr hrs h hora horas",
        "day": "day days dia dias",
        "week": "week weeks semana semanas",
        "month": "month months mes meses",
        "year": "year years ano anos",
        "installment": "installment installments instalment instalments parcela parcelas "
        "prestacao prestacoes x vezes",
        "kg": "kg kilo kilos kilogram kilograms quilo quilos quilograma quilogramas",
        "g": "g gram grams grama gramas",
        "km": "km kilometre kilometres kilometer kilometers quilometro quilometros",
        "m": "m metre metres meter meters metro metros",
        "cm": "cm centimetre centimetres centimeter centimeters centimetro centimetros",
        "item": "item items itens",
    }
)
"""Unit words, and what they mean in either language."""

MONEY = _named(
    {
        "BRL": "r$ brl real reais",
        "USD": "us$ usd $ dollar dollars dolar dolares",
        "EUR": "€ eur euro euros",
        "GBP": "£ gbp pound pounds libra libras",
    }
)
"""Currency signs and names."""

WORKING = frozenset(["business", "working", "util", "uteis"])
"""What makes a day a working day; "calendar" and "corridos" leave it a day."""

WEEKDAYS = {
    word: number
    for number, words in enumerate(
        (
            "monday mondays segunda segundas",
            "tuesday tuesdays terca tercas",
            "wednesday wednesdays quarta quartas",
            "thursday thursdays quinta quintas",
            "friday fridays sexta sextas",
            "saturday saturdays sabado sabados",
            "sunday sundays domingo domingos",
        )
    )
    for word in words.split()
}
"""Weekday words; Monday is 0."""

ORDINALS = frozenset(("segunda", "terca", "quarta", "quinta", "sexta"))
"""Weekdays that are ordinal numbers as well, unless `-feira` follows."""

SCALES = {
    word: 10**power
    for power, words in {
        2: "hundred",
        3: "thousand mil",
        6: "million millions milhao milhoes mi",
        9: "billion billions bilhao bilhoes bi",
    }.items()
    for word in words.split()
}
"""What a number before the word is multiplied by."""

_ONES = (
    "two dois duas",
    "three tres",
    "four quatro",
    "five cinco",
    "six seis",
    "seven sete",
    "eight oito",
    "nine nove",
    "ten dez",
    "eleven onze",
    "twelve doze",
    "thirteen treze",
    "fourteen quatorze catorze",
    "fifteen quinze",
    "sixteen dezesseis",
    "seventeen dezessete",
    "eighteen dezoito",
    "nineteen dezenove",
)
_TENS = (
    "twenty vinte",
    "thirty trinta",
    "forty quarenta",
    "fifty cinquenta",
    "sixty sessenta",
    "seventy setenta",
    "eighty oitenta",
    "ninety noventa",
    "hundred cem",
)
ONES = {word: number for number, words in enumerate(_ONES, 2) for word in words.split()}
"""Number words below twenty; "one", "um" and "uma" are articles as well and prove nothing."""
AFTER_TENS = {**ONES, "one": 1, "um": 1, "uma": 1}
"""Number words that may follow a round one."""
TENS = {word: 10 * number for number, words in enumerate(_TENS, 2) for word in words.split()}
"""Round number words up to a hundred."""

NEGATION = {
    "en": re.compile(
        r"\b(?:not|no|never|nor|none|nothing|cannot|without|except|unless|excluding)\b"
        r"|n['’]t\b|-free\b|\bnon-"
    ),
    "pt": re.compile(
        r"\b(?:nao|nunca|jamais|nem|sem|nenhuma?|exceto|salvo|tampouco)\b|\ba menos que\b"
    ),
}
"""What turns a statement round. "no" is an article in Portuguese, hence one list a language."""

CLAUSE_END = re.compile(r"[.;!?]+(?=\s)|\n+|\b(?:but|however|mas|porem|contudo|entretanto)\b")
"""Where a negation's reach ends."""

STOP_WORDS = frozenset(
    [
        "this",
        "that",
        "these",
        "those",
        "with",
        "from",
        "your",
        "have",
        "will",
        "been",
        "were",
        "they",
        "them",
        "their",
        "there",
        "when",
        "what",
        "which",
        "where",
        "would",
        "could",
        "should",
        "about",
        "after",
        "before",
        "into",
        "than",
        "then",
        "also",
        "only",
        "some",
        "such",
        "each",
        "other",
        "more",
        "most",
        "very",
        "just",
        "over",
        "under",
        "does",
        "must",
        "para",
        "como",
        "mais",
        "pelo",
        "pela",
        "pelos",
        "pelas",
        "esse",
        "essa",
        "esses",
        "essas",
        "este",
        "esta",
        "estes",
        "estas",
        "isso",
        "isto",
        "quando",
        "onde",
        "qual",
        "quais",
        "seus",
        "suas",
        "voce",
        "voces",
        "nossa",
        "nosso",
        "nossos",
        "nossas",
        "tambem",
        "apenas",
        "cada",
        "outro",
        "outra",
        "outros",
        "outras",
        "muito",
        "muita",
        "entre",
        "sobre",
        "depois",
        "antes",
        "pode",
        "podem",
        "deve",
        "devem",
        "sera",
        "serao",
        "foram",
        "esta",
        "estao",
        "passage",
        "passagem",
        "according",
        "acordo",
        "customer",
        "cliente",
    ]
)
"""Words of four letters and more that say nothing about the subject."""

INSTRUCTION_LIKE = re.compile(
    r"\b(?:ignore|disregard|forget|override|desconsidere|esqueca|ignorem?)\b.{0,40}"
    r"\b(?:instructions?|prompts?|rules|instruc(?:ao|oes)|regras|orientacoes)\b"
    r"|\bsystem prompt\b|\bprompt do sistema\b|\byou are now\b|\bvoce agora e\b"
    r"|\b(?:tell|answer|say to|diga|responda)\b.{0,20}\b(?:the )?(?:user|usuario|customer|cliente)"
    r"\b.{0,10}\b(?:that|to|que)\b"
)
"""Text that talks to the model instead of to the reader."""
