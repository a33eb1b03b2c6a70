"""Check digits of Brazilian numbers.

CPF and CNPJ: Receita Federal, modulo 11; the CNPJ with letters, which is given out from July 2026:
Instrução Normativa RFB 2.229/2024 (a character counts as its ASCII code less 48). PIS/PASEP/NIT:
Caixa Econômica Federal, modulo 11.
"""

from collections.abc import Sequence

_CNPJ = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_PIS = (3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_CPF = (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)


def is_cpf(text: str) -> bool:
    """Eleven digits, punctuation aside, the last two of which are right."""
    values = _values(text)
    if len(values) != 11 or len(set(values)) == 1 or max(values) > 9:  # noqa: PLR2004
        return False
    return values[9:] == [_digit(values[:9], _CPF[1:]), _digit(values[:10], _CPF)]


def is_cnpj(text: str) -> bool:
    """Twelve digits or letters and two digits, punctuation aside, which are right."""
    values = _values(text)
    if len(values) != 14 or len(set(values)) == 1 or max(values[12:]) > 9:  # noqa: PLR2004
        return False
    return values[12:] == [_digit(values[:12], _CNPJ[1:]), _digit(values[:13], _CNPJ)]


def is_pis(text: str) -> bool:
    """Eleven digits, punctuation aside, the last of which is right."""
    values = _values(text)
    if len(values) != 11 or len(set(values)) == 1 or max(values) > 9:  # noqa: PLR2004
        return False
    return values[10] == _digit(values[:10], _PIS)


def _values(text: str) -> list[int]:
    return [ord(one) - 48 for one in text.upper() if one.isascii() and one.isalnum()]


def _digit(values: Sequence[int], weights: Sequence[int]) -> int:
    rest = sum(value * weight for value, weight in zip(values, weights, strict=True)) % 11
    return 0 if rest < 2 else 11 - rest  # noqa: PLR2004 - the rule
