"""What the tools say, in both languages. No model words a fact from the shop's tables."""

from datetime import date
from typing import TYPE_CHECKING, Any

from rotina.graphs.language import Language

if TYPE_CHECKING:
    from agents.support.tools import AppointmentArguments, TicketArguments

_STATUS: dict[str, dict[Language, str]] = {
    "received": {"en": "received, not paid yet", "pt": "recebido, aguardando pagamento"},
    "paid": {"en": "paid and being packed", "pt": "pago e em separação"},
    "shipped": {"en": "on its way", "pt": "a caminho"},
    "delivered": {"en": "delivered", "pt": "entregue"},
    "cancelled": {"en": "cancelled", "pt": "cancelado"},
}
_PERIODS: dict[str, dict[Language, str]] = {
    "morning": {"en": "in the morning", "pt": "de manhã"},
    "afternoon": {"en": "in the afternoon", "pt": "à tarde"},
}
_MONTHS = "January February March April May June July August September October November December"


def day_of(iso: str, language: Language) -> str:
    """`2026-12-03` as people read it."""
    day = date.fromisoformat(iso)
    if language == "pt":
        return f"{day:%d/%m/%Y}"
    return f"{day.day} {_MONTHS.split()[day.month - 1]} {day.year}"


def order(result: dict[str, Any], language: Language) -> str:
    """The state of an order, and when it is expected."""
    number = result["number"]
    if not result["found"]:
        return {
            "en": f"I found no order {number}. Please check the number.",
            "pt": f"Não encontrei o pedido {number}. Confira o número, por favor.",
        }[language]
    status = _STATUS[result["status"]][language]
    text = {"en": f"Order {number} is {status}.", "pt": f"O pedido {number} está {status}."}
    lines = [text[language]]
    if result["expected_on"] and result["status"] in {"paid", "shipped"}:
        day = day_of(result["expected_on"], language)
        lines.append({"en": f"Expected on {day}.", "pt": f"Previsão: {day}."}[language])
    if result["tracking_code"]:
        code = result["tracking_code"]
        lines.append({"en": f"Tracking code: {code}.", "pt": f"Rastreio: {code}."}[language])
    return " ".join(lines)


def confirm_ticket(arguments: "TicketArguments", language: Language) -> str:
    """Shows what the ticket will say."""
    about = f" ({arguments.number})" if arguments.number else ""
    return {
        "en": f"Shall I open a ticket{about} that says “{arguments.message}”?",
        "pt": f"Posso abrir um chamado{about} dizendo “{arguments.message}”?",
    }[language]


def ticket(result: dict[str, Any], language: Language) -> str:
    """The number of the ticket."""
    number = result["ticket"]
    return {
        "en": f"Done: your ticket has the number {number}.",
        "pt": f"Pronto: o número do seu chamado é {number}.",
    }[language]


def confirm_appointment(arguments: "AppointmentArguments", language: Language) -> str:
    """Shows the day as it was understood."""
    when = _when(arguments.day.isoformat(), arguments.period, language)
    return {
        "en": f"Shall I book a visit to the store on {when}?",
        "pt": f"Posso marcar uma visita à loja em {when}?",
    }[language]


def appointment(result: dict[str, Any], language: Language) -> str:
    """Booked, or full."""
    when = _when(result["day"], result["period"], language)
    if result["booked"]:
        return {
            "en": f"Done: we expect you on {when}.",
            "pt": f"Pronto: esperamos você em {when}.",
        }[language]
    return {
        "en": f"There is no place left on {when}. Please choose another time.",
        "pt": f"Não há mais vaga em {when}. Escolha outro horário, por favor.",
    }[language]


def _when(iso: str, period: str, language: Language) -> str:
    return f"{day_of(iso, language)}, {_PERIODS[period][language]}"
