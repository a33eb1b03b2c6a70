"""Personal data, found by patterns and check digits: Presidio's recognisers, and Brazilian ones.

Presidio's pattern recognisers are used by themselves, without its analyzer: that needs a language
model, which finds names as well and is wrong about them too often to be put in front of every call.
"""

import functools
import importlib.util
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rotina.errors import SettingsError
from rotina.gateway.guards.brazil import is_cnpj, is_cpf, is_pis
from rotina.gateway.guards.finding import Found, plain

if TYPE_CHECKING:
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

SURE = 0.4
"""Presidio's score from which something counts; below it are guesses that need a context."""
AREA_DIGITS = 10
"""Digits of a Brazilian phone number with its area, at least."""
NEAR = 40
"""Characters before a bare number in which the word that says what it is may stand."""

_WORDS = {
    "PHONE": r"\btel|fone|celular|\bcel\b|whats|\bzap\b|phone|mobile|\bcell\b|\bcall\b"
    r"|\blig(?:ue|ar|a)\b|contat|contact|\bfax\b",
    "PIS": r"\bpis\b|pasep|\bnis\b|\bnit\b",
    "CEP": r"\bcep\b|zip|postal",
    "SSN": r"\bssn\b|social security",
}
_CONTEXT = {kind: re.compile(words, re.IGNORECASE) for kind, words in _WORDS.items()}

# Letters of other scripts stand beside numbers without a space.
_LEFT = r"(?<![A-Za-z0-9_])(?<!\d[.\-/])"
_RIGHT = r"(?![A-Za-z0-9_])(?![.\-/]\d)"
_AREA = (
    r"(?:1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[134579]|8[1-9]|9[1-9])"  # Anatel's DDD
)
_EMAIL = (
    r"(?<![\w.+-])[\w!#$%&'*+/=?^`{|}~.-]{1,64}@(?:[\w](?:[\w-]{0,61}[\w])?\.){1,8}"
    r"(?:[^\W\d_]{2,24}|xn--[\w-]{2,59})\b"
)
_PHONE = (
    rf"(?:\+?55[ .-]?)?(?:\(0?{_AREA}\)|0?{_AREA})[ .-]?"
    r"(?:9[ .]?[0-9]{4}|[2-5][0-9]{3})[ .-]?[0-9]{4}"
)
# Presidio's own takes any fourteen digits that begin with 1, and not the Mastercards that begin
# with 2. These are the issuers' ranges; Luhn's check digit is left to Presidio.
_CARD = (
    r"(?:2[2-7]|35|[456][0-9])[0-9]{2}(?:[ -]?[0-9]{4}){3}(?:[ -]?[0-9]{3})?"
    r"|3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}"
    r"|3[0689][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{4}"
)
_PATTERNS: dict[str, tuple[tuple[str, float, Callable[[str], bool] | None], ...]] = {
    "CPF": ((r"[0-9]{3}[. ]?[0-9]{3}[. ]?[0-9]{3}[-. /]?[0-9]{2}", 0.9, is_cpf),),
    "CNPJ": (
        (
            r"(?i:[0-9A-Z]{2}[. ][0-9A-Z]{3}[. ][0-9A-Z]{3}[/ ][0-9A-Z]{4}[- ][0-9]{2})",
            0.9,
            is_cnpj,
        ),
        (r"[0-9A-Z]{8}/?[0-9A-Z]{4}-?[0-9]{2}", 0.9, is_cnpj),
    ),
    "PHONE": ((_PHONE, 0.6, None), (r"(?:9[ .]?[0-9]{4}|[2-5][0-9]{3})[ .-][0-9]{4}", 0.5, None)),
    "SSN": ((r"[0-9]{9}", 0.5, None),),
    "PIS": ((r"[0-9]{3}\.?[0-9]{5}\.?[0-9]{2}-?[0-9]", 0.5, is_pis),),
    "CEP": ((r"[0-9]{2}\.?[0-9]{3}-[0-9]{3}|[0-9]{8}", 0.5, None),),
}
_REGIONS = {"pt": ("BR",), "en": ("US", "GB"), None: ("BR", "US", "GB")}
"""Whose numbers without a country code are phone numbers."""


def require_presidio() -> None:
    """Raises `SettingsError` where the extra is not installed; imports nothing."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        raise SettingsError("A guard of kind \"pii\" needs Presidio: pip install 'rotina[guards]'")


def find_pii(text: str, kinds: Iterable[str], language: str | None = None) -> list[Found]:
    """What of these kinds stands in a text, in no order and maybe overlapping.

    Kinds are `EMAIL`, `IBAN`, `CARD`, `IP`, `SSN`, `PHONE`, `CPF`, `CNPJ`, `CEP`, `PIS`. Raises
    `SettingsError` where Presidio is not installed.
    """
    copy = plain(text)
    found: list[Found] = []
    for kind in kinds:
        for recognizer in recognizers(kind, language):
            places = recognizer.analyze(copy, recognizer.supported_entities)
            found += [
                Found(one.start, one.end, kind, one.score)
                for one in places
                if one.score >= SURE and _is_meant(kind, copy, one.start, one.end)
            ]
    return found


def _is_meant(kind: str, text: str, start: int, end: int) -> bool:
    """Digits alone are an order's number as well, and so are a phone number's last eight: they
    count where a word says what they are."""
    value = text[start:end]
    if kind == "IP":
        return _is_address(value, text[max(0, start - 2) : start], text[end : end + 2])
    context = _CONTEXT.get(kind)
    short = kind == "PHONE" and sum(map(str.isdecimal, value)) < AREA_DIGITS
    if context is None or not (short or value.isdecimal()):
        return True
    return context.search(text, max(0, start - NEAR), start) is not None


def _is_address(value: str, before: str, after: str) -> bool:
    """Not a part of a longer row of numbers, nor two short words with colons between."""
    if re.search(r"[0-9]\.\Z", before) or re.match(r"\.[0-9]", after):
        return False
    return any(one.isdecimal() for one in value) or value.count(":") > 2  # noqa: PLR2004


@functools.cache
def recognizers(
    kind: str, language: str | None
) -> "tuple[PatternRecognizer | PhoneRecognizer, ...]":
    """Presidio's recognisers of a kind, and ours."""
    require_presidio()
    from presidio_analyzer import (  # noqa: PLC0415 - an extra, and two seconds
        Pattern,
        PatternRecognizer,
        predefined_recognizers,
    )

    class Email(predefined_recognizers.EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool | None:  # noqa: ARG002
            # Presidio's own looks the domain up in a list that it fetches from the internet.
            return None

    class Checked(PatternRecognizer):
        def __init__(self, regex: str, score: float, check: Callable[[str], bool] | None) -> None:
            super().__init__(
                supported_entity=kind,
                patterns=[Pattern(kind, f"{_LEFT}(?:{regex}){_RIGHT}", score)],
                global_regex_flags=re.MULTILINE,
            )
            self._check = check

        def validate_result(self, pattern_text: str) -> bool | None:
            return None if self._check is None else self._check(pattern_text)

    ready: dict[str, Callable[[], Any]] = {
        "EMAIL": lambda: Email(patterns=[Pattern("email", _EMAIL, 0.9)]),
        "IBAN": predefined_recognizers.IbanRecognizer,
        "CARD": lambda: predefined_recognizers.CreditCardRecognizer(
            patterns=[Pattern("card", f"{_LEFT}(?:{_CARD}){_RIGHT}", 0.3)]
        ),
        "IP": predefined_recognizers.IpRecognizer,
        "SSN": predefined_recognizers.UsSsnRecognizer,
        "PHONE": lambda: predefined_recognizers.PhoneRecognizer(
            supported_regions=_REGIONS[language], leniency=2
        ),
    }
    found = [ready[kind]()] if kind in ready else []
    return (*found, *(Checked(*pattern) for pattern in _PATTERNS.get(kind, ())))
