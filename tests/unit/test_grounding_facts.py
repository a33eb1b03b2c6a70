"""Facts are compared by value, whatever the language and the notation."""

import pytest

from rotina.graphs.language import Language
from rotina.grounding.facts import Facts


def missing(sentence: str, passage: str, said: Language = "en", read: Language = "en") -> list[str]:
    return Facts(sentence, said).missing_in(Facts(passage, read))


@pytest.mark.parametrize(
    ("sentence", "said", "passage", "read"),
    [
        ("It takes 5 to 7 business days.", "en", "A entrega leva de 5 a 7 dias úteis.", "pt"),
        ("Leva sete dias úteis.", "pt", "It takes seven business days.", "en"),
        ("Você tem trinta dias.", "pt", "within 30 days", "en"),
        ("You have a 30-day trial.", "en", "trinta dias de teste", "pt"),
        ("It costs R$ 1,234.50.", "en", "Custa R$ 1.234,50.", "pt"),
        ("Custa 50 reais.", "pt", "Custa R$ 50,00.", "pt"),
        ("You get ten percent off.", "en", "desconto de 10%", "pt"),
        ("We are open from 9 a.m. to 6:30 p.m.", "en", "Abrimos das 9h às 18h30.", "pt"),
        ("Abre de segunda a sexta.", "pt", "Open Monday to Friday.", "en"),
        ("It was issued on March 15, 2025.", "en", "Emitido em 15/03/2025.", "pt"),
        ("Fechamos em 25 de dezembro.", "pt", "We are closed on 25 December 2025.", "en"),
        ("Your order PX-2231 left.", "en", "Pedido PX 2231, PX-2231", "pt"),
        ("Write to help@shop.example.", "en", "escreva para help@shop.example, sempre", "pt"),
        ("Em até 12x.", "pt", "in up to 12 installments", "en"),
        ("Twenty-four hours.", "en", "vinte e quatro horas", "pt"),
        ("It was founded in 2024.", "en", "Fundada em 01/02/2024.", "pt"),
        ("Between three and five days.", "en", "3 to 5 days", "en"),
        ("It opened in March, at last.", "en", "Abriu em março.", "pt"),
        ("We march on. May we? You may.", "en", "Nada disso.", "pt"),
        ("March on! “May I?”", "en", "Nada disso.", "pt"),
        ("It cost 3.2 million euros.", "en", "Custou € 3.200.000.", "pt"),
        ("Custa R$ 2 mil.", "pt", "It costs R$ 2,000.", "en"),
        ("Somos dois mil.", "pt", "There are 2,000 of us.", "en"),
        ("Recebeu 2,5 milhões de reais.", "pt", "It got R$ 2,500,000.00.", "en"),
        ("Five hundred thousand people.", "en", "500 mil pessoas", "pt"),
        ("Nothing is stated here.", "en", "Nem aqui.", "pt"),
    ],
)
def test_the_same_fact_in_other_words_is_found(
    sentence: str, said: Language, passage: str, read: Language
) -> None:
    assert missing(sentence, passage, said, read) == []


@pytest.mark.parametrize(
    ("sentence", "passage", "wrong"),
    [
        ("It takes 8 days.", "It takes 7 days.", ["8"]),
        ("It takes 7 hours.", "It takes 7 days.", ["7"]),
        ("It takes 7 days.", "It takes 7 business days.", ["7"]),
        ("It costs $50.", "It costs R$ 50.", ["50"]),
        ("You get 10% off.", "You get 10 days.", ["10"]),
        ("We open at 10:00.", "We open at 9:00.", ["10:00"]),
        ("We open on Sunday.", "We open on Saturday.", ["Sunday"]),
        ("Issued on 16 March 2025.", "Issued on 15 March 2025.", ["16 March 2025"]),
        ("Closed on 24 December.", "Closed on 25 December.", ["24 December"]),
        ("It starts in April.", "It starts in March 2025.", ["April"]),
        ("Order PX-2232.", "Order PX-2231.", ["PX-2232"]),
        ("Write to hack@evil.example.", "Write to help@shop.example.", ["hack@evil.example"]),
        ("It starts in May.", "It starts in March.", ["May"]),
        ("It cost 3.2 million euros.", "It cost 3.2 billion euros.", ["3.2 million"]),
        ("It has 2 items.", "It has 2 thousand items.", ["2"]),
        ("It costs $2 thousand.", "It costs $2.", ["2 thousand"]),
        ("Thirty-one days.", "thirty days", ["Thirty-one"]),
        ("See https://evil.example/x.", "See https://shop.example/x.", ["https://evil.example/x"]),
    ],
)
def test_another_fact_is_missing(sentence: str, passage: str, wrong: list[str]) -> None:
    assert missing(sentence, passage) == wrong


def test_a_number_is_read_by_the_conventions_of_its_language() -> None:
    assert missing("Custa 1.234 reais.", "It costs R$ 1,234.", "pt", "en") == []
    assert missing("Custa 1.234 reais.", "It costs R$ 1.234.", "pt", "en") == ["1.234"]


def test_a_day_of_the_month_is_no_number() -> None:
    assert missing("You have 15 days.", "Since 15 March 2025.") == ["15"]
