"""Every number a text states, with all its plausible readings as exact decimals."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

from rotina.grounding.characters import fold, is_word

Mark = Literal[".", ","]
"""A decimal mark."""

MAX_DIGITS = 40
"""Longer runs of digits are identifiers, not amounts."""

_DOMINANT = 3
_CORE = re.compile(r"[0-9]+(?:[.,'][0-9]+)*")
_GROUPED = re.compile(r"[0-9]{1,3}(?:(?P<mark>[.,' \u00a0])[0-9]{3})(?:(?P=mark)[0-9]{3})*")
_INDIAN = re.compile(r"[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")
_GROUP = re.compile(r"[0-9]{3}")
_NEGATIVE = re.compile(r"(?P<sign>[-(])(?P<gap> ?)(?:[A-Za-z]{0,3}[$€£¥₹] ?)?\Z")
_UNIT = re.compile(r"(?:kg|g|mg|lb|ml|l|cm|mm|m|km|un|und|pcs?|h|x)(?![^\W_]|_)", re.IGNORECASE)
_CODES = ("USD", "EUR", "GBP", "BRL", "JPY", "CHF", "CAD", "AUD", "CNY", "MXN")
_TIGHT_SPACES = "\u00a0\u202f\u2009"
_PLAIN = re.compile(r"[0-9][0-9.,' \u00a0]*")
_PERCENT = re.compile("[ \u00a0]?%")
_LOOK_BACK = 8


class Token(NamedTuple):
    """A number at `text[start:end]`, its sign and percent mark not included."""

    start: int
    end: int
    digits: str


def even_out(text: str) -> str:
    """The text with plain digits, dashes, apostrophes and no-break spaces, of the same length."""
    if text.isascii():
        return text
    return text.translate({ord(character): _even(character) for character in set(text)})


def _even(character: str) -> str:
    if character in _TIGHT_SPACES:
        return "\u00a0"
    folded = fold(character)
    plain = len(folded) == 1 and folded in "0123456789.,'-%()"
    return folded if plain and not character.isascii() else character


def mark_of(digits: str) -> Mark | None:
    """The decimal mark a number's own form gives away; None when it could be either."""
    used = [character for character in digits if character in ".,"]
    if not used:
        return None
    last: Mark = "." if used[-1] == "." else ","
    other: Mark = "," if last == "." else "."
    if len(set(used)) > 1:
        return last
    if len(used) > 1:
        return other
    head, _, tail = digits.rpartition(last)
    whole = re.split(r"[' \u00a0]", head)[0]
    grouped = len(tail) == 3 and head == whole and len(head) <= 3 and not head.startswith("0")  # noqa: PLR2004
    return None if grouped else last


def readings(digits: str, mark: Mark | None = None) -> set[Decimal]:
    """Plausible values of unsigned `digits`; `mark` is the source's decimal mark, if it has one.

    `1.234` reads as 1234 and as 1.234, unless `mark` decides; `12.500,00` reads only as 12500.
    """
    if len(digits) > 2 * MAX_DIGITS or sum(map(str.isdigit, digits)) > MAX_DIGITS:
        return set()
    if digits.isdigit():
        return {Decimal(digits)}
    marks: Iterable[Mark] = (".", ",")
    decided = mark_of(digits) or mark
    if decided and any(character in ".," for character in digits):
        marks = (decided,)
    return {value for each in marks if (value := _read(digits, each)) is not None}


def _read(digits: str, mark: Mark) -> Decimal | None:
    """The value if `mark` is the decimal mark, or None when the groups do not allow it."""
    whole, _, fraction = digits.partition(mark)
    if fraction and not fraction.isdigit():
        return None
    if not (whole.isdigit() or _GROUPED.fullmatch(whole) or _INDIAN.fullmatch(whole)):
        return None
    plain = "".join(character for character in whole if character.isdigit())
    return Decimal(f"{plain}.{fraction}" if fraction else plain)


class Numbers:
    """All numbers of a text by value. Linear in the text.

    `dates` are sorted spans whose digits are not numbers; `fallback` is the decimal mark to
    expect when the text's own numbers do not show one.
    """

    def __init__(
        self, text: str, dates: list[tuple[int, int]] | None = None, fallback: Mark | None = None
    ) -> None:
        self.text = even_out(text)
        tokens = list(_outside(self._tokens(), dates or []))
        self.mark: Mark | None = self._dominant(tokens) or fallback
        self.by_value: dict[Decimal, list[tuple[int, int]]] = {}
        for token in [*tokens, *self._spaced(tokens)]:
            self._index(token)

    def find(self, value: Decimal) -> list[tuple[int, int]]:
        """Spans that read as exactly this value, in order."""
        return sorted(set(self.by_value.get(value, ())))

    def values_at(self, start: int, end: int) -> set[Decimal] | None:
        """Readings of `text[start:end]` when all of it is one number, else None."""
        digits = self.text[start:end]
        return readings(digits, self.mark) if _CORE.fullmatch(digits) else None

    def _tokens(self) -> Iterator[Token]:
        for match in _CORE.finditer(self.text):
            start, end = match.span()
            if not (self._begins(start) and self._ends(end)):
                continue
            digits = match.group()
            before = self.text[start - 1 : start]
            if before and before in ".," and self._is_leading_mark(start - 1):
                start, digits = start - 1, f"0{before}{digits}"
            yield Token(start, end, digits)

    def _is_leading_mark(self, at: int) -> bool:
        """Whether a mark before digits is a decimal mark: ` .50`, but not `No.50` or `...50`."""
        earlier = self.text[at - 1 : at]
        return not earlier or not (is_word(earlier) or earlier in ".,)")

    def _begins(self, start: int) -> bool:
        before, earlier = self.text[start - 1 : start], self.text[max(0, start - 2) : start - 1]
        if not before:
            return True
        if is_word(before):
            code = self.text[max(0, start - 3) : start]
            return code in _CODES and not is_word(self.text[max(0, start - 4) : start - 3] or " ")
        if not earlier or before not in ".,':/-":
            return True
        if before in "/-":
            return not is_word(earlier)
        return not earlier.isdigit()

    def _ends(self, end: int) -> bool:
        after, later = self.text[end : end + 1], self.text[end + 1 : end + 2]
        if not after:
            return True
        if is_word(after):
            code = self.text[end : end + 3]
            listed = code in _CODES and not is_word(self.text[end + 3 : end + 4] or " ")
            return listed or _UNIT.match(self.text, end) is not None
        return not (after in ".,':/-" and later.isdigit())

    @staticmethod
    def _dominant(tokens: list[Token]) -> Mark | None:
        votes = [mark_of(token.digits) for token in tokens if len(token.digits) <= MAX_DIGITS]
        commas, points = votes.count(","), votes.count(".")
        if commas > 0 and commas >= _DOMINANT * points:
            return ","
        return "." if points > 0 and points >= _DOMINANT * commas else None

    def _spaced(self, tokens: list[Token]) -> Iterator[Token]:
        """Numbers grouped by spaces, unless the text groups by marks and the space is plain."""
        marks = any(match.count(".") + match.count(",") > 1 for _, _, match in tokens)
        chain: list[Token] = []
        for token in [*tokens, Token(-1, -1, "")]:
            if chain and self._continues(chain, token, plain=not marks):
                chain.append(token)
                continue
            if len(chain) > 1:
                start, end = chain[0].start, chain[-1].end
                yield Token(start, end, self.text[start:end])
            chain = [token] if token.digits.isdigit() and len(token.digits) <= 3 else []  # noqa: PLR2004

    def _continues(self, chain: list[Token], token: Token, *, plain: bool) -> bool:
        last = chain[-1]
        space = self.text[last.end : last.end + 1]
        if token.start != last.end + 1 or not last.digits.isdigit():
            return False
        if space != "\u00a0" and not (space == " " and plain):
            return False
        if len(chain) > 1 and self.text[last.start - 1] != space:
            return False
        group = _GROUP.match(token.digits)
        return group is not None and token.digits[3:4] in ("", ".", ",")

    def _index(self, token: Token) -> None:
        start, end = token.start, token.end
        tied = {self.text[start - 1 : start], self.text[end : end + 1]} & {"\u00a0"}
        if tied and self._is_group(start, end):
            return
        for value in readings(token.digits, self.mark):
            for signed, first, last in self._signed(value, token):
                self.by_value.setdefault(signed, []).append((first, last))
                if percent := _PERCENT.match(self.text, last):
                    hundredth = _hundredth(signed)
                    self.by_value.setdefault(hundredth, []).append((first, percent.end()))

    def _is_group(self, start: int, end: int) -> bool:
        """Whether the digits are only one group of a number grouped by no-break spaces."""
        text = self.text
        follows = text[end : end + 1] == "\u00a0" and _GROUP.fullmatch(text, end + 1, end + 4)
        before = text[start - 1 : start] == "\u00a0" and text[max(0, start - 2)].isdigit()
        return bool(follows) or (before and _GROUP.match(text, start) is not None)

    def _stands_free(self, at: int) -> bool:
        """Whether no word ends right before `at`."""
        return at == 0 or not is_word(self.text[at - 1])

    def _signed(self, value: Decimal, token: Token) -> list[tuple[Decimal, int, int]]:
        """The value with each sign its surroundings allow, and the span that shows it."""
        start, end = token.start, token.end
        positive, negative = (value, start, end), value.copy_negate()
        sign = _NEGATIVE.search(self.text, max(0, start - _LOOK_BACK), start)
        after = self.text[end : end + 2]
        if sign and sign["sign"] == "-" and self._stands_free(sign.start()):
            shown = (negative, sign.start(), end)
            return [positive, shown] if sign["gap"] else [shown]
        closing = self.text[end : end + 2].find(")")
        if sign and sign["sign"] == "(" and closing >= 0:
            return [positive, (negative, sign.start(), end + closing + 1)]
        if after[:1] == "-" and not is_word(after[1:] or " "):
            shown = (negative, start, end + 1)
            return [positive, shown] if token.digits.isdigit() else [shown]
        return [positive]


def _hundredth(value: Decimal) -> Decimal:
    """Exact, whatever the precision of the decimal context."""
    sign, digits, exponent = value.as_tuple()
    return Decimal((sign, digits, int(exponent) - 2))


def _outside(tokens: Iterable[Token], dates: list[tuple[int, int]]) -> Iterator[Token]:
    """Tokens that overlap none of the sorted spans."""
    following = iter([*dates, (1 << 62, 1 << 62)])
    start, end = next(following)
    for token in tokens:
        while end <= token.start:
            start, end = next(following)
        if token.end <= start:
            yield token


def decimal_of(value: object) -> Decimal | None:
    """The exact value of a JSON number or of a plain numeric string; None for anything else.

    A string in another form counts when it has exactly one reading ("1.234,56", not "1.234");
    NaN, the infinities and numbers beyond `MAX_DIGITS` digits count as nothing.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value) if value.bit_length() <= 3 * MAX_DIGITS else None
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        return value if value.is_finite() and abs(value.adjusted()) <= MAX_DIGITS else None
    return _decimal_of_text(value) if isinstance(value, str) else None


def _decimal_of_text(value: str) -> Decimal | None:
    if len(value) > 2 * MAX_DIGITS:
        return None
    digits = even_out(value.strip())
    negative = digits.startswith("-")
    digits = digits.lstrip("+-") if digits[:1] in ("+", "-") else digits
    if not _PLAIN.fullmatch(digits) or digits[-1] in ".,":
        return None
    found = readings(digits)
    if len(found) != 1:
        return None
    number = found.pop()
    return number.copy_negate() if negative else number
