"""Each way a text is classified, with models behind real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rotina.errors import ContextTooLongError, ModelOutputError, ModelServerError
from rotina.graphs.classification import (
    NONE_OF_THESE,
    Classification,
    ClassificationResult,
    Label,
    classify,
    steps,
)
from rotina.graphs.classification.head import Head
from rotina.graphs.classification.trained import Heads
from tests.scripted_model import Answer, Request, status
from tests.unit.classification_stage import TOPICS, Stage, embedded, examples, staged

LABELS = [Label(name, f"about {name}") for name in TOPICS]
CASCADE = Classification("tickets", LABELS).with_examples(examples())
CHEAP = replace(CASCADE, policy="cheap")
MODEL = replace(CASCADE, policy="model")
BARE = Classification("tickets", LABELS)
KNOWN = "forgot password today"
STRANGE = "bananas grow on Mars"


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A model server; nothing is trained yet."""
    monkeypatch.setattr(steps, "HEADS", Heads())
    async with staged() as opened:
        yield opened


async def test_a_clear_text_needs_no_chat_model(stage: Stage) -> None:
    result = await classify(KNOWN, CASCADE, stage.gateway)
    assert (result.label, result.path, result.none_of_these) == ("login", "cheap", False)
    assert result.confidence >= CASCADE.confident
    assert {one.label for one in result.alternatives} == {"refund", "late"}
    assert stage.chats() == []


async def test_an_unclear_text_goes_to_the_model(stage: Stage) -> None:
    stage.chosen = "late"
    result = await classify(STRANGE, CASCADE, stage.gateway)
    assert (result.label, result.path) == ("late", "model")
    assert "late" not in [one.label for one in result.alternatives]
    (asked,) = stage.chats()
    assert asked.schema is not None
    assert asked.schema["properties"]["label"]["enum"] == [*TOPICS, NONE_OF_THESE]
    assert asked.last_message == STRANGE
    assert "about late" in asked.prompt


async def test_the_model_may_say_that_no_label_fits(stage: Stage) -> None:
    stage.chosen = NONE_OF_THESE
    result = await classify(STRANGE, CASCADE, stage.gateway)
    assert (result.label, result.none_of_these, result.path) == (None, True, "model")
    assert result.reason == "The model says that no label fits."


async def test_the_cheap_path_alone_rejects_what_is_unlike_all_examples(stage: Stage) -> None:
    result = await classify(STRANGE, CHEAP, stage.gateway)
    assert (result.label, result.none_of_these, result.path) == (None, True, "cheap")
    assert result.reason == "The text is unlike the examples of every label."
    assert result.confidence > 1 - CHEAP.rejected
    forced = await classify(STRANGE, replace(CHEAP, none_of_these=False), stage.gateway)
    assert forced.label in TOPICS
    assert not forced.none_of_these
    assert stage.chats() == []


async def test_none_is_not_offered_where_a_label_must_fit(stage: Stage) -> None:
    await classify(STRANGE, replace(MODEL, none_of_these=False), stage.gateway)
    (asked,) = stage.chats()
    assert NONE_OF_THESE not in asked.prompt
    assert asked.schema is not None
    assert asked.schema["properties"]["label"]["enum"] == list(TOPICS)


async def test_without_examples_the_model_answers_alone(stage: Stage) -> None:
    stage.chosen = "late"
    result = await classify("Onde está o meu pedido?", BARE, stage.gateway)
    assert result == ClassificationResult(label="late", confidence=0.5, path="model")
    assert stage.texts_embedded() == []


async def test_too_few_examples_are_not_trusted_but_shown(stage: Stage) -> None:
    few = BARE.with_examples([("forgot password", "login"), ("money back", "refund")])
    result = await classify("forgot password", few, stage.gateway)
    assert result.path == "model"
    (asked,) = stage.chats()
    turns = [message["content"] for message in asked.body["messages"]]
    assert turns[-3:] == ["forgot password", '{"label":"login"}', "forgot password"]


async def test_names_and_descriptions_suffice_for_the_cheap_path(stage: Stage) -> None:
    bare = replace(BARE, policy="cheap")
    result = await classify("it is about login", bare, stage.gateway)
    assert (result.label, result.path) == ("login", "cheap")


@pytest.mark.parametrize("text", ["", " \n\t", "?!... --", "«»“”"])
@pytest.mark.parametrize("declaration", [CASCADE, BARE, CHEAP, MODEL])
async def test_a_text_that_says_nothing_costs_nothing(
    stage: Stage, text: str, declaration: Classification
) -> None:
    result = await classify(text, declaration, stage.gateway)
    assert (result.label, result.none_of_these, result.path) == (None, True, "cheap")
    assert result.reason == "The text holds no letter, digit or pictograph."
    assert stage.model.requests == []


@pytest.mark.parametrize("text", ["😡", "42", "não", "好"])
def test_pictographs_and_numbers_say_something(text: str) -> None:
    assert not steps.is_blank(text)


@pytest.mark.parametrize("most", [20, 200, 4000])
def test_a_long_text_keeps_its_beginning_and_its_end(most: int) -> None:
    text = "beginning " + "x" * 10_000 + " end"
    short = steps.shorten(text, most)
    assert len(short) == most
    assert short.startswith("beginning"[: most // 4])
    assert most < 200 or short.endswith(" end")
    assert steps.shorten(short, most) == short


async def test_of_a_very_long_text_the_ends_are_read_and_it_says_so(stage: Stage) -> None:
    text = "forgot password " * 100_000
    result = await classify(text, CASCADE, stage.gateway)
    assert result.label == "login"
    assert result.reason == (
        f"Of {len(text)} characters the middle was left out; {steps.LONGEST_TEXT} were read."
    )
    assert max(len(sent) for sent in stage.texts_embedded()) == steps.LONGEST_TEXT


async def test_many_labels_are_cut_to_a_shortlist(stage: Stage) -> None:
    others = [Label(f"other_{number}") for number in range(steps.MOST_LISTED)]
    many = Classification("many", [*others, *LABELS], policy="model").with_examples(examples())
    stage.chosen = "login"
    result = await classify(KNOWN, many, stage.gateway)
    assert result.label == "login"
    (asked,) = stage.chats()
    assert asked.schema is not None
    offered = asked.schema["properties"]["label"]["enum"]
    assert len(offered) == steps.SHORTLIST + 1
    assert offered[0] == "login"


async def test_the_prompt_before_the_examples_is_the_same_for_every_text(stage: Stage) -> None:
    for text in (KNOWN, STRANGE, "quero o dinheiro"):
        await classify(text, MODEL, stage.gateway)
    systems = {one.body["messages"][0]["content"] for one in stage.chats()}
    assert len(systems) == 1


async def test_examples_give_way_to_a_small_context() -> None:
    async with staged(context=512) as small:
        text = "password " * 200
        await classify(text, MODEL, small.gateway)
        (asked,) = small.chats()
    assert len(asked.prompt) <= 512 * steps.CHARACTERS_PER_TOKEN
    assert "[…]" in asked.last_message


async def test_labels_that_fill_the_context_are_told() -> None:
    wordy = Classification("wordy", [Label(name, "long " * 400) for name in TOPICS])
    async with staged(context=512) as small:
        with pytest.raises(ContextTooLongError, match="'wordy' take the whole context"):
            await classify(KNOWN, wordy, small.gateway)


async def test_a_name_that_was_not_offered_is_an_error(stage: Stage) -> None:
    stage.chosen = "invented"
    with pytest.raises(ModelOutputError, match="label"):
        await classify(KNOWN, MODEL, stage.gateway)


async def test_training_happens_once_for_callers_at_the_same_time(stage: Stage) -> None:
    texts = [KNOWN, "still waiting now", "money back please"]
    results = await asyncio.gather(*(classify(text, CHEAP, stage.gateway) for text in texts))
    assert [one.label for one in results] == ["login", "late", "refund"]
    assert len(stage.texts_embedded()) == len(texts) + len(CHEAP.rows)


async def test_training_leaves_the_event_loop_free(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    went_on = asyncio.Event()
    train = Head.train.__func__  # type: ignore[attr-defined]

    def wait_for_the_loop(declaration: Classification, vectors: object) -> Head:
        # Would never come back if it ran on the loop.
        asyncio.run_coroutine_threadsafe(_set(went_on), loop).result(timeout=30)
        head: Head = train(Head, declaration, vectors)
        return head

    monkeypatch.setattr(Head, "train", wait_for_the_loop)
    assert (await classify(KNOWN, CHEAP, stage.gateway)).label == "login"
    assert went_on.is_set()


async def _set(event: asyncio.Event) -> None:
    event.set()


async def test_a_failed_training_is_tried_again(stage: Stage) -> None:
    def failing(request: Request) -> Answer:
        texts = request.body["input"]
        return embedded(texts) if len(texts) == 1 else status(503)

    stage.model.script = failing
    with pytest.raises(ModelServerError):
        await classify(KNOWN, CHEAP, stage.gateway)
    stage.model.script = stage.script
    assert (await classify(KNOWN, CHEAP, stage.gateway)).label == "login"


async def test_a_caller_that_gives_up_does_not_stop_the_others(stage: Stage) -> None:
    first = asyncio.create_task(classify(KNOWN, CHEAP, stage.gateway))
    second = asyncio.create_task(classify(KNOWN, CHEAP, stage.gateway))
    while len(stage.texts_embedded()) <= 2:
        await asyncio.sleep(0)  # until one of them has begun to train
    first.cancel()
    assert (await second).label == "login"
    assert first.cancelled()


async def test_vectors_of_another_model_are_not_mixed(stage: Stage) -> None:
    await classify(KNOWN, CHEAP, stage.gateway)
    before = len(stage.texts_embedded())
    stage.model.script = lambda request: embedded(request.body["input"], model="another")
    await classify(KNOWN, CHEAP, stage.gateway)
    assert len(stage.texts_embedded()) - before == 1 + len(CHEAP.rows)


async def test_only_so_many_heads_are_kept(stage: Stage) -> None:
    heads = Heads(most=2)
    for text in ("one", "two", "three", "three"):
        declaration = CHEAP.with_examples([(text, "late")])
        await heads.get(declaration, stage.gateway, "bag-of-words", 96)
    assert len(heads) == 2
    assert len(stage.texts_embedded()) == 3 * (len(CHEAP.rows) + 1)
