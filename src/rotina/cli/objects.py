"""JSON objects and KEY=VALUE pairs as the command line takes them."""

import json
from pathlib import Path
from typing import Any

from rotina.errors import InvalidInputError


def json_object(text: str, what: str) -> dict[str, Any]:
    """The JSON object in `text`, or in the file after an `@`.

    Raises `InvalidInputError`, which calls the value `what`.
    """
    try:
        raw = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        value = json.loads(raw)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"{what} is not a JSON object: write it as {{…}}")
    return value


def key_values(given: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE pairs; a value is JSON where it reads as a number, true, false, null or a list.

    Raises `InvalidInputError` for what is no pair.
    """
    pairs: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise InvalidInputError(f"{pair!r} is not KEY=VALUE: write for example year=2024")
        try:
            pairs[key] = json.loads(text)
        except ValueError:
            pairs[key] = text
    return pairs
