"""Whether a short message says yes or no, in English or Portuguese. Code decides, no model."""

import re
from typing import Literal

from rotina.grounding.vocabulary import plain

Consent = Literal["yes", "no"]

_YES = frozenset(
    {
        *("sim", "s", "ss", "isso", "isso mesmo", "claro", "pode", "pode sim", "quero", "confirmo"),
        *("confirmado", "confirma", "pode confirmar", "sim pode", "sim quero", "com certeza"),
        *("certo", "correto", "ta certo", "esta certo", "beleza", "perfeito", "positivo", "aceito"),
        *("pode abrir", "pode marcar", "pode agendar", "pode fazer", "sim confirmo", "sim claro"),
        *("yes", "y", "yep", "yeah", "yup", "sure", "ok", "okay", "go ahead", "do it", "confirm"),
        *("yes do it", "yes go ahead", "confirmed", "correct", "right", "of course", "absolutely"),
        *("i confirm", "yes i do", "yes i confirm", "yes sure", "that is right", "thats right"),
        *("sounds good",),
    }
)
_NO = frozenset(
    {
        *("nao", "n", "nao quero", "nao precisa", "melhor nao", "nao pode", "negativo", "nunca"),
        *("cancela", "cancelar", "cancele", "deixa", "deixa pra la", "deixa para la", "esquece"),
        *("nao confirmo", "desisto", "pare", "nao cancela", "agora nao"),
        *("no", "nope", "nah", "no way", "cancel", "cancel it", "stop", "never mind", "nevermind"),
        *("do not", "dont", "please dont", "not now", "no cancel", "forget it", "no cancel it"),
    }
)
_POLITE = re.compile(
    r"\b(?:please|por favor|pfv|thanks|thank you|obrigad[oa]|valeu|entao|then|viu)\b"
)
_THUMBS: dict[str, Consent] = {"\N{THUMBS UP SIGN}": "yes", "\N{THUMBS DOWN SIGN}": "no"}


def read_consent(text: str) -> Consent | None:
    """`yes`, `no`, or None when the message says more than that or something else.

    A yes with a condition ("yes, but on Friday") is None: it is no consent to what was asked.
    """
    for thumb, meaning in _THUMBS.items():
        if text.strip().startswith(thumb) and not any(map(str.isalnum, text)):
            return meaning
    words = re.sub(r"['’]", "", plain(text))
    words = _POLITE.sub(" ", re.sub(r"[^\w\s]", " ", words))
    said = " ".join(words.split())
    if said in _YES:
        return "yes"
    return "no" if said in _NO else None
