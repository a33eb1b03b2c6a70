"""Worked decisions in both languages: they show the model each action, and to copy as written."""

from typing import Any

EXAMPLES: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "do you deliver on saturdays?",
        {"action": "answer", "question": "Do you deliver on Saturdays?"},
    ),
    (
        "Boa tarde, cadê meu pedido ab 10442?",
        {"action": "order_status", "arguments": {"number": "ab 10442"}},
    ),
    (
        "Where is my order?",
        {"action": "order_status", "arguments": {"number": None}},
    ),
    (
        "My blender arrived broken, please open a ticket",
        {
            "action": "open_ticket",
            "arguments": {
                "topic": "product",
                "message": "The blender arrived broken.",
                "number": None,
            },
        },
    ),
    (
        "Quero marcar uma visita para 14/05 de manhã",
        {
            "action": "book_appointment",
            "arguments": {"day": "14/05", "period": "morning"},
        },
    ),
    (
        "a garantia cobre queda?",
        {"action": "answer", "question": "A garantia cobre queda?"},
    ),
    ("Isso é um absurdo, quero falar com um atendente!", {"action": "person"}),
    ("thanks, bye", {"action": "talk"}),
)
