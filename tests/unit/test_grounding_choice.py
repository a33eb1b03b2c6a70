"""Choosing among several places that state the same value, and paths of leaves."""

from typing import Any

import pytest

from rotina.grounding import GroundedField, Source, ground

INVOICE = """\
ACME Ltda - NOTA FISCAL 1.042
Emissão: 03/04/2025   Vencimento: 25/04/2025
Item  Descrição        Qtd  Preço unit.   Total
1     Parafuso M8      2        1,00       2,00
2     Porca M8         1        2,00       2,00
3     Arruela          1        2,00       2,00
4     Arruela          1        2,00       2,00
Subtotal: R$ 8,00
Frete: R$ 0,00
Total: R$ 8,00
"""
LINES = [
    {"description": "Parafuso M8", "quantity": 2, "unit_price": 1.0, "total": 2.0},
    {"description": "Porca M8", "quantity": 1, "unit_price": 2.0, "total": 2.0},
    {"description": "Arruela", "quantity": 1, "unit_price": 2.0, "total": 2.0},
    {"description": "Arruela", "quantity": 1, "unit_price": 2.0, "total": 2.0},
]


def places(
    value: Any, text: str, schema: dict[str, Any] | None = None
) -> dict[str, tuple[int, int, str]]:
    """For each proven path: line and column, from 0, and the quote."""
    found = {}
    for field in ground(value, text, schema=schema):
        if field.evidence:
            start = field.evidence.start
            column = start - text.rfind("\n", 0, start) - 1
            found[field.path] = (text.count("\n", 0, start), column, field.evidence.quote)
    return found


def test_each_line_of_an_invoice_is_bound_to_its_own_row() -> None:
    found = places({"lines": LINES}, INVOICE)
    for index in range(4):
        row = {path: place for path, place in found.items() if path.startswith(f"/lines/{index}/")}
        assert {line for line, _, _ in row.values()} == {3 + index}
        assert [column for _, column, _ in row.values()] == [6, 23, 32, 43]


def test_reversed_items_follow_their_description() -> None:
    found = places({"lines": [LINES[1], LINES[0]]}, INVOICE)
    assert found["/lines/0/quantity"][:2] == (4, 23)
    assert found["/lines/1/quantity"][:2] == (3, 23)


def test_labels_tell_subtotal_from_total() -> None:
    found = places({"total": 8.0, "subtotal": 8.0}, INVOICE)
    assert found["/total"][0] == 9
    assert found["/subtotal"][0] == 7


def test_a_sub_total_is_no_total() -> None:
    text = "Sub total: 8.00\nTotal: 8.00\n"
    found = places({"total": 8.0, "subtotal": 8.0}, text)
    assert found == {"/total": (1, 7, "8.00"), "/subtotal": (0, 11, "8.00")}


def test_words_of_the_schema_name_fields_in_another_language() -> None:
    text = "Desconto: 0,00\nFrete: 0,00\nJuros: 0,00\n"
    value = {"shipping": 0, "interest": 0}
    properties = {
        "shipping": {"title": "Frete"},
        "interest": {"anyOf": [{"$ref": "#/$defs/Amount"}, {"type": "null"}]},
    }
    schema = {
        "properties": properties,
        "$defs": {"Amount": {"type": "number", "description": "Valor dos juros"}},
    }
    found = places(value, text, schema)
    assert found["/shipping"][0] == 1
    assert found["/interest"][0] == 2


def test_labels_above_a_value() -> None:
    text = "Subtotal      Tax     Total\n   10.00      0.00     10.00\n"
    assert places({"total": 10, "subtotal": 10}, text) == {
        "/total": (1, 23, "10.00"),
        "/subtotal": (1, 3, "10.00"),
    }


def test_several_amounts_on_one_line() -> None:
    text = "Subtotal: 100,00 Frete: 0,00 Total: 100,00\n"
    found = places({"total": 100, "subtotal": 100}, text)
    assert (found["/total"][1], found["/subtotal"][1]) == (36, 10)


def test_parties_are_kept_apart_by_their_other_fields() -> None:
    text = "Seller\nACME\nCity: Recife\n\n\nBuyer\nBeta\nCity: Recife\n"
    found = places(
        {"seller": {"name": "ACME", "city": "Recife"}, "buyer": {"name": "Beta", "city": "Recife"}},
        text,
    )
    assert (found["/seller/city"][0], found["/buyer/city"][0]) == (2, 7)


def test_items_of_a_plain_array_take_places_of_their_own() -> None:
    found = places({"tags": ["red", "red", "blue"]}, "red blue red")
    assert [column for _, column, _ in found.values()] == [0, 9, 4]


def test_order_of_keys_does_not_change_unambiguous_choices() -> None:
    value = {"lines": LINES, "total": 8.0, "subtotal": 8.0}
    turned = {key: value[key] for key in reversed(value)}
    assert places(value, INVOICE) == places(turned, INVOICE)


def test_the_same_input_gives_the_same_answer() -> None:
    value = {"lines": LINES, "total": 8.0}
    assert ground(value, INVOICE) == ground(value, Source(INVOICE))


def test_paths_are_json_pointers_and_nulls_are_left_out() -> None:
    value: Any = {"a/b": {"~c": [None, "x", {"": 1}]}, "gone": None, "empty": {}, "none": []}
    fields = ground(value, "x 1")
    assert [field.path for field in fields] == ["/a~1b/~0c/1", "/a~1b/~0c/2/"]
    assert all(field.proven for field in fields)


@pytest.mark.parametrize("value", [True, False, "", "  ", float("nan"), float("-inf"), "nope"])
def test_what_cannot_be_proven_is_listed_without_evidence(value: object) -> None:
    (field,) = ground(value, "True False nan inf 1 0")
    assert (field.path, field.evidence, field.proven) == ("", None, False)


def test_null_has_nothing_to_prove() -> None:
    assert ground(None, "null") == []
    assert ground({}, "{}") == []


def test_a_scalar_has_the_empty_path() -> None:
    (field,) = ground("x", "a x")
    assert isinstance(field, GroundedField)
    assert field.path == ""
    assert field.evidence is not None


def test_deep_nesting_and_cyclic_schemas_end() -> None:
    value: Any = "x"
    for _ in range(3000):
        value = {"next": value}
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": {"$ref": "#/$defs/Node"}}}
    (field,) = ground(value, "next: x", schema=schema)
    assert field.proven


@pytest.mark.parametrize(
    "schema", [{"properties": []}, {"$ref": "http://x/y"}, {"$ref": "#/nowhere"}, {"items": True}]
)
def test_odd_schemas_are_no_help_and_no_harm(schema: dict[str, Any]) -> None:
    assert all(field.proven for field in ground({"a": ["x"]}, "a x", schema=schema))


def test_broken_unicode_in_keys_and_values() -> None:
    (field,) = ground({"\ud800": "\ud800x"}, "\ud800x")
    assert not field.proven
    assert field.path == "/\\ud800"


def test_many_places_still_find_the_row() -> None:
    rows = [f"item{index:04d}  1  5,00" for index in range(500)]
    value = {
        "lines": [
            {"name": f"item{index:04d}", "quantity": 1, "price": 5} for index in (3, 250, 499)
        ]
    }
    found = places(value, "\n".join(rows))
    assert [line for line, _, _ in found.values()] == [3] * 3 + [250] * 3 + [499] * 3


def test_a_slight_number_far_from_its_item_proves_nothing() -> None:
    text = "Boxes 1\n" + "\n" * 6 + "Blue lantern  12  4.50\nRed lantern  6  4.50\n"
    lines = [
        {"name": "Blue lantern", "quantity": 1},
        {"name": "Red lantern", "quantity": 6},
    ]
    found = {field.path: field.evidence for field in ground({"lines": lines}, text)}
    assert found["/lines/0/quantity"] is None
    near = found["/lines/1/quantity"]
    assert near is not None
    assert text[near.start - 13 : near.start] == "Red lantern  "
