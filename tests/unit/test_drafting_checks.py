"""A draft is compared with its briefing by code."""

import pytest

from rotina.graphs.drafting.checks import check
from rotina.graphs.drafting.prompts import Order

SALE = Order("Sale from 3 to 5 March 2025, 20% off all lamps. Code LUZ20.", "en", 60)
OFERTA = Order("Liquidação de 3 a 5 de março de 2025: 20% em luminárias.", "pt", 60)


def found(order: Order, text: str, title: str = "") -> list[tuple[str, str]]:
    return [(problem.kind, problem.what) for problem in check(order, title, text)]


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (SALE, "From 3 to 5 March 2025 all our lamps are 20 percent off. Use LUZ20."),
        (SALE, "Two reasons to come by: light, and 20% off."),
        (OFERTA, "As luminárias estão 20% mais baratas de 3 a 5 de março de 2025."),
        (OFERTA, "Em março, não perca: 20 por cento de desconto em nossas luminárias."),
        (SALE._replace(briefing="Write a template: Dear [name], 20% off."), "Dear [name], 20% off"),
        (SALE, "See [our lamps](#lamps), they are 20% off."),
    ],
)
def test_what_the_briefing_says_is_no_problem(order: Order, text: str) -> None:
    assert found(order, text) == []


@pytest.mark.parametrize(
    ("order", "text", "problems"),
    [
        (SALE, "All lamps are 30% off.", [("invented", "30")]),
        (SALE, "All lamps are 20% off until 7 March.", [("invented", "7 March")]),
        (SALE, "Use LUZ30 for 20% off.", [("invented", "LUZ30")]),
        (SALE, "Ask sales@lamps.example.", [("invented", "sales@lamps.example")]),
        (OFERTA, "Luminárias por R$ 99,90.", [("invented", "99,90")]),
        (SALE, "Dear [Customer Name], 20% off!", [("placeholder", "[Customer Name]")]),
        (SALE, "Olá {{cliente}}", [("placeholder", "{{cliente}}")]),
        (SALE, "Signed: ____", [("placeholder", "____")]),
        (SALE._replace(must_mention=("Free tea",)), "20% off.", [("missing", "Free tea")]),
        (SALE._replace(must_mention=("R$ 1.000",)), "For R$ 1.000 only.", []),
        (OFERTA._replace(avoid=("grátis",)), "É GRATIS!", [("avoided", "grátis")]),
        (SALE._replace(avoid=("art",)), "Start now: 20% off.", []),
        (
            SALE._replace(words=10),
            "It is a very fine day to buy one of our lamps, friends.",
            [("length", "13 words, 10 were asked for")],
        ),
        (
            SALE,
            "Todas as nossas luminárias estão com vinte por cento de desconto nesta semana.",
            [("language", "not written in English")],
        ),
    ],
)
def test_what_it_does_not_say_is_told(
    order: Order, text: str, problems: list[tuple[str, str]]
) -> None:
    assert found(order, text) == problems


def test_the_title_is_checked_too() -> None:
    assert found(SALE, "All lamps.", title="50% off!") == [("invented", "50")]
