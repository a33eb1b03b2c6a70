"""Consent, days, arguments and declarations of support bots: all by code, no model asked."""

from datetime import date
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agents.support import SUPPORT
from rotina.graphs.support import Call, Support, Tool, read_consent
from rotina.graphs.support.arguments import Checked, check_arguments, wire_schema
from rotina.graphs.support.days import read_day
from rotina.graphs.support.prompts import decision_schema

MONDAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    "text",
    [
        *("sim", "Sim!", "SIM, por favor.", "pode sim", "Claro", "com certeza", "👍", "👍🏽"),
        *("yes", "Yes, please.", "ok", "Go ahead!", "sure, thanks", "that's right"),
    ],
)
def test_a_plain_yes(text: str) -> None:
    assert read_consent(text) == "yes"


@pytest.mark.parametrize(
    "text",
    [
        *("não", "Nao, obrigada", "melhor não", "deixa pra lá", "agora não", "👎"),
        *("no", "No, thank you!", "never mind", "don't", "Cancel it, please"),
    ],
)
def test_a_plain_no(text: str) -> None:
    assert read_consent(text) == "no"


@pytest.mark.parametrize(
    "text",
    [
        *("sim, mas na sexta", "yes, but on Friday", "yes and also book a visit", "", "  ", "?"),
        *("sim ou não?", "yes or no?", "no problem, go ahead", "não sei", "maybe", "AU-20311"),
    ],
)
def test_what_is_neither_is_left_to_the_model(text: str) -> None:
    assert read_consent(text) is None


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-12-03", "2026-12-03"),
        ("03/12/2026", "2026-12-03"),
        ("3 de dezembro de 2026", "2026-12-03"),
        ("December 3, 2026", "2026-12-03"),
        ("3 de dezembro", "2026-12-03"),
        ("3rd of January", "2027-01-03"),
        ("3/12", "2026-12-03"),
        ("hoje", "2026-11-23"),
        ("amanhã de manhã", "2026-11-24"),
        ("depois de amanhã", "2026-11-25"),
        ("the day after tomorrow", "2026-11-25"),
        ("sexta-feira", "2026-11-27"),
        ("next Monday", "2026-11-30"),
    ],
)
def test_a_day_in_the_customers_words(text: str, day: str) -> None:
    assert read_day(text, MONDAY) == day


@pytest.mark.parametrize("text", ["", "soon", "31/02", "30 de fevereiro", "monday or friday"])
def test_no_day_is_guessed(text: str) -> None:
    assert read_day(text, MONDAY) is None


class Visit(BaseModel):
    """Arguments of every kind."""

    day: date
    period: Literal["morning", "afternoon"]
    people: int | None = None
    price: Decimal | None = None
    code: str | None = Field(default=None, pattern=r"^[A-Z]{2}-?\d{4}$")
    note: str = ""


def check(said: str, **given: Any) -> Checked:
    return check_arguments(given, Visit, said, free=frozenset({"note"}), today=MONDAY)


def test_arguments_that_the_customer_wrote_are_read_by_code() -> None:
    checked = check(
        "Somos 4 pessoas, amanhã, por R$ 1.250,00, código AU-2031",
        day="amanhã",
        period="morning",
        people="4",
        price="1.250,00",
        code="AU-2031",
        note="Four people.",
    )
    assert checked.missing == []
    assert checked.values == {
        "day": "2026-11-24",
        "period": "morning",
        "people": 4,
        "price": "1250.00",
        "code": "AU-2031",
        "note": "Four people.",
    }


def test_what_a_model_made_up_is_refused() -> None:
    assert check("a visit, please", day="2026-12-03", period="morning").missing == ["day"]
    given = check("tomorrow", day="tomorrow", period="morning", people="4", code="AU-2031")
    assert given.values is not None
    assert (given.values["people"], given.values["code"]) == (None, None)


def test_an_argument_in_a_form_that_does_not_fit_is_missing() -> None:
    assert check("tomorrow, AU-2", day="tomorrow", period="morning", code="AU-2").missing == [
        "code"
    ]
    assert check("tomorrow", day="tomorrow", period=None).missing == ["period"]
    assert check("someday", day="someday", period="morning").missing == ["day"]


def test_the_model_copies_text_and_chooses_among_choices() -> None:
    schema = wire_schema(Visit)
    assert schema["properties"]["day"] == {"type": ["string", "null"]}
    assert schema["properties"]["people"] == {"type": ["string", "null"]}
    assert schema["properties"]["period"] == {"enum": ["morning", "afternoon", None]}
    assert schema["required"] == list(Visit.model_fields)


async def _run(call: Call, arguments: Visit) -> dict[str, Any]:
    raise AssertionError


def tool(**changed: Any) -> Tool:
    words = {"en": "it", "pt": "isso"}
    given = {
        "name": "visit",
        "description": "a visit.",
        "arguments": Visit,
        "run": _run,
        "tells": lambda result, language: "done",
        "label": words,
        "asks_for": dict.fromkeys(Visit.model_fields, words),
    }
    return Tool(**{**given, **changed})


def test_declarations_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="'visit' has an effect: give it a `confirmation`"):
        tool(effect=True)
    with pytest.raises(ValueError, match="cannot ask for code, day"):
        tool(asks_for={}, free=frozenset({"note", "people", "period", "price"}))
    for names in (["visit", "visit"], ["person"], ["answer"]):
        with pytest.raises(ValueError, match="Two actions are named"):
            Support(collections={}, tools=tuple(tool(name=name) for name in names))


def test_a_yes_or_no_is_offered_only_when_one_is_awaited() -> None:
    def actions(*, pending: bool) -> list[str]:
        options = decision_schema(SUPPORT, pending=pending)["anyOf"]
        return [option["properties"]["action"]["const"] for option in options]

    tools = ["order_status", "open_ticket", "book_appointment"]
    assert actions(pending=False) == ["answer", "person", "talk", *tools]
    assert actions(pending=True) == ["answer", "person", "talk", *tools, "confirm", "decline"]


def test_the_agents_examples_are_decisions_it_may_take() -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(decision_schema(SUPPORT, pending=False))
    for said, decision in SUPPORT.examples:
        validator.validate(decision)
        for value in decision.get("arguments", {}).values():
            chosen = value in {"product", "morning", "The blender arrived broken."}
            assert value is None or chosen or str(value) in said
