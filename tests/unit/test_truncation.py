"""Truncation: what goes, what stays, and that it then fits."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rotina.gateway.tokens import Encoding, weigh
from rotina.gateway.truncate import Policy, shorten

O200K = Encoding("o200k_base")


def size(message: Any) -> int:
    return weigh(message, O200K)


def text(role: str, content: str) -> Any:
    return {"role": role, "content": content}


def calling(number: int) -> Any:
    call = {"id": f"c{number}", "function": {"name": "look", "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(number: int, content: str = "found") -> Any:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": content}


TALK = [
    text("system", "Be brief."),
    text("user", "Olá, qual é o prazo? " * 20),
    calling(1),
    result(1),
    text("assistant", "Cinco dias. " * 20),
    text("user", "And the price? " * 20),
    text("assistant", "Ten euros. " * 20),
    text("user", "Thanks! And in reais?"),
]


def test_what_fits_is_left_alone() -> None:
    cut = shorten(TALK, "oldest", 10_000, size)
    assert (list(cut.messages), cut.changed) == (TALK, 0)
    nothing = shorten([], "middle", 10, size)
    assert list(nothing.messages) == []


def test_the_oldest_turn_goes_whole() -> None:
    cut = shorten(TALK, "oldest", sum(map(size, TALK)) - 1, size)
    assert (list(cut.messages), cut.changed) == ([TALK[0], *TALK[5:]], 4)


def test_the_last_question_stays() -> None:
    cut = shorten(TALK, "oldest", 25, size)
    assert list(cut.messages) == [TALK[0], TALK[-1]]
    least = shorten(TALK, "oldest", 10, size)
    assert list(least.messages) == [TALK[0], TALK[-1]]
    assert least.weight > 10


def test_in_one_turn_the_oldest_tool_calls_go_with_their_results() -> None:
    talk = [
        text("user", "Look."),
        *(m for n in range(5) for m in (calling(n), result(n, "x " * 50))),
    ]
    cut = shorten(talk, "oldest", 200, size)
    left = list(cut.messages)
    assert left[0] == talk[0]
    assert left[1:] == talk[-len(left) + 1 :]
    assert left[1]["role"] == "assistant"
    assert cut.changed == len(talk) - len(left) > 0


def test_the_middle_of_the_longest_text_goes() -> None:
    long = "Início. " + "Nada de novo. " * 2000 + "Fim."
    talk = [text("system", "s " * 500), text("user", long)]
    assert list(shorten(talk, "oldest", 2000, size).messages) == talk
    cut = shorten(talk, "middle", 2000, size)
    assert cut.messages[0] == talk[0], "the system message is not touched"
    left = str(cut.messages[1]["content"])
    assert left.startswith("Início.")
    assert left.endswith("Fim.")
    assert "characters left out" in left
    assert 1900 < sum(map(size, cut.messages)) <= 2000, "no more is cut than has to be"
    assert cut.changed == 1


def test_a_system_message_alone_too_long_is_never_cut() -> None:
    talk = [text("system", "s " * 5000), text("user", "Hi")]
    assert list(shorten(talk, "middle", 100, size).messages) == talk


ROLES = st.sampled_from(["system", "user", "assistant", "call"])
CONTENTS = st.text(max_size=60) | st.builds(
    str.__mul__, st.sampled_from(["a ", "não ", "👍"]), st.integers(0, 400)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Any]:
    talk: list[Any] = []
    for at, role in enumerate(draw(st.lists(ROLES, min_size=1, max_size=12))):
        if role == "call":
            talk += [calling(at), result(at, draw(CONTENTS))]
        else:
            talk.append(text(role, draw(CONTENTS)))
    return talk


@given(conversations(), st.sampled_from(["oldest", "middle"]), st.integers(0, 1500))
def test_what_is_left_is_a_conversation_that_fits(
    talk: list[Any], policy: Policy, room: int
) -> None:
    whole = sum(map(size, talk))
    cut = shorten(talk, policy, room, size)
    left = list(cut.messages)
    assert sum(map(size, left)) == cut.weight <= max(whole, room)
    if whole <= room:
        assert (left, cut.changed) == (talk, 0)
    calls = {c["id"] for m in left for c in m.get("tool_calls", ())}
    assert calls == {m["tool_call_id"] for m in left if m["role"] == "tool"}
    assert [m for m in left if m["role"] == "system"] == [m for m in talk if m["role"] == "system"]
    assert left[-1]["role"] == talk[-1]["role"]
    same = [m for m in left if m in talk]
    if policy == "oldest":
        assert same == left
        assert cut.changed == len(talk) - len(left)
    else:
        assert cut.changed >= len(talk) - len(left)
