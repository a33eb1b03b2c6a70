"""What a declaration accepts, and what it says when it does not."""

from typing import Any

import pytest

from rotina.errors import SettingsError
from rotina.graphs.classification import NONE_OF_THESE, Classification, Label

TWO = (Label("refund", examples=["money back"]), Label("late_delivery", "Atraso na entrega"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "has 0 labels; declare at least 2"),
        ([Label("only")], "has 1 labels"),
        ([Label("a"), Label("b"), Label("A")], "'a' more than once"),
        ([Label("a"), Label("")], "'' is no name for a label"),
        ([Label("a"), Label(" b")], "' b' is no name for a label"),
        ([Label("a"), Label(NONE_OF_THESE)], "is the answer when no label fits; rename"),
        ([Label("a"), Label("None_Of_These")], "is the answer when no label fits; rename"),
        ([Label("a"), Label("b", examples=["fine", " "])], "an example of 'b' is empty"),
        ([Label("a"), Label("b", examples="text")], "the examples of 'b' are a text"),
    ],
)
def test_a_malformed_declaration_is_refused(labels: list[Label], message: str) -> None:
    with pytest.raises(SettingsError, match="'tickets'") as caught:
        Classification("tickets", labels)
    assert message in str(caught.value)


@pytest.mark.parametrize("option", ["confident", "rejected"])
def test_a_share_is_between_0_and_1(option: str) -> None:
    share: Any = {option: 2}
    with pytest.raises(SettingsError, match=f"{option}=2"):
        Classification("tickets", TWO, **share)


def test_names_and_descriptions_come_before_the_examples() -> None:
    declaration = Classification("tickets", TWO)
    assert declaration.rows == (
        ("refund", "refund"),
        ("late delivery", "late_delivery"),
        ("Atraso na entrega", "late_delivery"),
        ("money back", "refund"),
    )
    assert declaration.examples == 1
    assert not declaration.learned


def test_examples_may_be_added_by_name() -> None:
    declaration = Classification("tickets", TWO)
    more = declaration.with_examples([("quero o estorno", "refund"), ("is late", "late_delivery")])
    assert more.labels[0].examples == ("money back", "quero o estorno")
    assert more.labels[1].examples == ("is late",)
    assert more.fingerprint != declaration.fingerprint
    assert declaration.with_examples([]).fingerprint == declaration.fingerprint


def test_an_example_of_an_unknown_label_is_refused_with_a_hint() -> None:
    declaration = Classification("tickets", TWO)
    with pytest.raises(SettingsError, match="no label 'refunds': did you mean 'refund'"):
        declaration.with_examples([("text", "refunds")])
    with pytest.raises(SettingsError, match="no label 'xyz': use 'refund', 'late_delivery'"):
        declaration.with_examples([("text", "xyz")])


def test_what_only_the_model_reads_does_not_train_anew() -> None:
    one = Classification("tickets", TWO)
    other = Classification("tickets", TWO, instructions="A shop.", policy="model", rejected=0.2)
    assert one.fingerprint == other.fingerprint
