"""Bad input of the text jobs is refused before a run exists, by name and with the remedy."""

from typing import Any

import pytest

from rotina.errors import InvalidInputError
from workflows.text_jobs import DRAFT, SUMMARIZE, TRANSLATE, WRITE_CODE

WORKFLOWS = {each.name: each for each in (DRAFT, SUMMARIZE, TRANSLATE, WRITE_CODE)}


@pytest.mark.parametrize(
    ("workflow", "value", "said"),
    [
        ("summarize", {"text": "  "}, "`text` is empty"),
        ("summarize", {}, "give either `text` or `document`"),
        ("summarize", {"text": "a", "document": {"sha256": "0" * 64, "name": "a"}}, "give either"),
        ("summarize", {"text": "a b", "sentences": 0}, "greater than or equal to 1"),
        ("summarize", {"text": "a" * 1_000_001}, "at most 1000000 characters"),
        ("translate", {"text": "Olá", "to": "fr"}, "'en' or 'pt'"),
        ("translate", {"text": "Olá"}, "to: Field required"),
        ("draft", {"text": "x", "words": 100000}, "less than or equal to 800"),
        ("draft", {"text": "x", "avoid": [""]}, "avoid.0: String should have at least 1"),
        ("write_code", {"task": ""}, "at least 1 character"),
    ],
)
def test_bad_input_is_refused(workflow: str, value: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        WORKFLOWS[workflow].validate_input(value)
    assert said in str(refused.value)


def test_a_text_needs_no_document() -> None:
    accepted = TRANSLATE.validate_input({"text": "Olá", "to": "en"})
    assert (accepted["document"], accepted["source_language"]) == (None, None)
    assert SUMMARIZE.file_field == DRAFT.file_field == "document"
    assert WRITE_CODE.file_field is None
