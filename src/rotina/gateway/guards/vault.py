"""Placeholders: what is sent in place of a value, and how the value comes back."""

import json
import re
from collections.abc import Iterable

_SHAPE = re.compile(r"<[A-Z]{1,12}_[0-9]{1,7}>")
# Some servers escape < and > when they write JSON (Go's encoding/json does).
_IN_JSON = re.compile(r"(?:<|\\u003[cC])([A-Z]{1,12}_[0-9]{1,7})(?:>|\\u003[eE])")
_END = r"[A-Z]{0,12}(?:_[0-9]{0,7})?"
_TAIL = re.compile(rf"<{_END}\Z")
_JSON_TAIL = re.compile(
    rf"(?:<|\\u003[cC]){_END}(?:(?<=[0-9])\\(?:u(?:0(?:03?)?)?)?)?\Z|\\(?:u(?:0(?:03?)?)?)?\Z"
)


class Vault:
    """The values of one call, by their placeholders: `<CPF_1>`, the same one for the same value."""

    def __init__(self, texts: Iterable[str]) -> None:
        """`texts` are those of the request: what looks like a placeholder there stays what it is,
        and no value gets the same."""
        self._taken = {found for text in texts for found in _shapes(text)}
        self._of: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._last: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def placeholder(self, kind: str, value: str) -> str:
        """What stands for a value."""
        found = self._of.get((kind, value))
        while found is None:
            self._last[kind] = self._last.get(kind, 0) + 1
            name = f"<{kind}_{self._last[kind]}>"
            if name not in self._taken:
                found = self._of[kind, value] = name
                self._values[name] = value
        return found

    def restored(self, text: str) -> str:
        """The text with values in place of placeholders; a value is not looked at again."""
        return _SHAPE.sub(lambda found: self._values.get(found[0], found[0]), text)

    def restored_json(self, text: str) -> str:
        """The same for a piece of JSON, in whose strings the placeholders stand."""

        def value(found: re.Match[str]) -> str:
            known = self._values.get(f"<{found[1]}>")
            return found[0] if known is None else json.dumps(known, ensure_ascii=False)[1:-1]

        return _IN_JSON.sub(value, text)

    def masked(self, text: str) -> str:
        """The text with placeholders in place of values: for messages and logs."""
        for name, value in sorted(self._values.items(), key=lambda pair: -len(pair[1])):
            text = text.replace(value, name)
            text = text.replace(json.dumps(value, ensure_ascii=False)[1:-1], name)
        return text


class Restorer:
    """Restores a text that comes in pieces: keeps back an end that may begin a placeholder."""

    def __init__(self, vault: Vault, *, in_json: bool) -> None:
        self._restore = vault.restored_json if in_json else vault.restored
        self._tail = _JSON_TAIL if in_json else _TAIL
        self._kept = ""

    def feed(self, piece: str) -> str:
        """What of the text so far is certain and was not given out yet."""
        text = self._kept + piece
        tail = self._tail.search(text)
        cut = len(text) if tail is None else tail.start()
        self._kept = text[cut:]
        return self._restore(text[:cut])

    def end(self) -> str:
        """What is left: it was no placeholder."""
        left, self._kept = self._kept, ""
        return self._restore(left)


def _shapes(text: str) -> list[str]:
    return [f"<{name}>" for name in _IN_JSON.findall(text)]
