"""The support desk of Casa Aurora, a fictitious shop: help centre, orders, tickets, visits."""

from agents.support.examples import EXAMPLES
from agents.support.tools import BOOK_APPOINTMENT, OPEN_TICKET, ORDER_STATUS, hand_over
from rotina.graphs.support import Support

SUPPORT = Support(
    collections={"en": ("help-en",), "pt": ("help-pt",)},
    tools=(ORDER_STATUS, OPEN_TICKET, BOOK_APPOINTMENT),
    persona="You work for the support desk of Casa Aurora, a shop for home appliances.",
    greeting={
        "en": "Hello! I can answer questions about Casa Aurora, look up an order, open a ticket "
        "or book a visit to the store. How can I help?",
        "pt": "Olá! Posso tirar dúvidas sobre a Casa Aurora, consultar um pedido, abrir um "
        "chamado ou marcar uma visita à loja. Como posso ajudar?",
    },
    hand_over=hand_over,
    examples=EXAMPLES,
)

__all__ = ["BOOK_APPOINTMENT", "EXAMPLES", "OPEN_TICKET", "ORDER_STATUS", "SUPPORT", "hand_over"]
