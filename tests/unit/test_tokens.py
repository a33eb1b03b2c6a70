"""Counting tokens: OpenAI's vocabularies, a tokenizer.json, and the estimate."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers

from rotina.errors import SettingsError
from rotina.gateway.tokens import (
    PER_IMAGE,
    PER_MESSAGE,
    PER_REPLY,
    Encoding,
    Estimate,
    FileTokenizer,
    TokenCount,
    byte_length,
    count_tokens,
    encoding_of,
    tokenizer_of,
)
from rotina.settings import Deployment

HERE = Path()
ENGLISH = "The quick brown fox jumps over the lazy dog."
PORTUGUESE = "A fatura nº 123 vence amanhã, às 14h30: R$ 1.234,56. Não há atraso."


# The counts are tiktoken 0.14's.
@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("", 0, 0),
        ("Hello, world!", 4, 4),
        (ENGLISH, 10, 10),
        ("A rápida raposa castanha salta sobre o cão preguiçoso.", 19, 16),
        ("Olá, mundo! A fatura nº 123 vence amanhã, às 14h30: R$ 1.234,56.", 33, 28),
        ("👩‍👩‍👧‍👦 🎉 café", 22, 14),
        ("<|endoftext|>", 7, 7),
        ("a" * 5000, 625, 625),
    ],
)
def test_openai_vocabularies_count_as_openai_does(text: str, cl100k: int, o200k: int) -> None:
    assert Encoding("cl100k_base").count(text) == cl100k
    assert Encoding("o200k_base").count(text) == o200k


def test_a_special_token_is_one_token_at_least_and_its_text_at_most() -> None:
    encoding = Encoding("o200k_base")
    assert (encoding.least("<|endoftext|>"), encoding.most("<|endoftext|>")) == (1, 7)


def test_a_lone_surrogate_counts() -> None:
    assert Encoding("cl100k_base").count("\ud800") >= 1
    assert Estimate().count("\ud800") >= 1


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5-nano", "o200k_base"),
        ("openai/o3", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("ft:gpt-4o:acme::1", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("openai/gpt-oss-20b", "o200k_harmony"),
        ("qwen3:8b", None),
        ("olmo-2", None),
    ],
)
def test_a_model_is_known_by_its_family(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


@pytest.mark.parametrize(
    ("deployment", "name"),
    [
        (Deployment(model="gpt-4o"), "o200k_base"),
        (
            Deployment(
                model="gpt-4", base_url=SecretStr("https://acme.openai.azure.com/openai/v1")
            ),
            "cl100k_base",
        ),
        # Some servers give their own models OpenAI's names.
        (Deployment(model="gpt-4", base_url=SecretStr("http://localhost:8080/v1")), "estimate"),
        (
            Deployment(model="gpt-4", base_url=SecretStr("https://xapi.openai.com.evil/v1")),
            "estimate",
        ),
        (Deployment(model="qwen3", tokenizer="o200k_base"), "o200k_base"),
        (Deployment(model="claude", provider="anthropic"), "estimate"),
    ],
)
def test_the_vocabulary_is_that_of_the_deployment(deployment: Deployment, name: str) -> None:
    assert tokenizer_of(deployment, HERE).name == name


def test_the_parts_of_a_prompt_count() -> None:
    one = Deployment(model="gpt-4o")
    plain: Any = [
        {"role": "system", "content": "Hello, world!"},
        {"role": "user", "content": ENGLISH},
    ]
    found = count_tokens(plain, one)
    assert found.tokens == 4 + 10 + 2 * PER_MESSAGE + PER_REPLY
    assert found.exact
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    more = count_tokens(plain, one, tools=[tool], schema={"type": "object"})
    assert more.tokens > found.tokens
    assert not more.exact
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}]
    seen = count_tokens([{"role": "user", "content": image}], one)
    assert seen == TokenCount(PER_IMAGE + PER_MESSAGE + PER_REPLY, exact=False, method=seen.method)
    assert count_tokens([], one).tokens == PER_REPLY
    assert count_tokens("", one) == TokenCount(0, exact=True, method="o200k_base")


def test_a_tool_call_counts() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    with_call: Any = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    without: Any = [{"role": "assistant", "content": ""}]
    one = Deployment(model="gpt-4o")
    assert count_tokens(with_call, one).tokens > count_tokens(without, one).tokens + 8
    assert not count_tokens(with_call, one).exact


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """A tokenizer.json whose tokens are words; truncation is on, as some publishers leave it."""
    words = {"[UNK]": 0, "pão": 1, "de": 2, "queijo": 3}
    library = Library(models.WordLevel(words, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.add_special_tokens(["<|stop now|>"])
    library.enable_truncation(2)
    path = tmp_path / "tokenizer.json"
    library.save(str(path))
    return path


def test_a_tokenizer_file_counts_its_own_tokens(vocabulary: Path) -> None:
    own = Deployment(model="m", tokenizer=vocabulary.name)
    assert count_tokens("pão de queijo", own, folder=vocabulary.parent) == TokenCount(
        3, exact=True, method="tokenizer.json"
    )
    prompt: Any = [{"role": "user", "content": "pão de queijo"}]
    found = count_tokens(prompt, own, folder=vocabulary.parent)
    assert (found.tokens, found.exact) == (3 + PER_MESSAGE + PER_REPLY, False), "template unknown"


def test_a_special_token_in_a_file_has_two_readings(vocabulary: Path) -> None:
    own = FileTokenizer(vocabulary)
    text = "pão <|stop now|>"
    assert (own.least(text), own.most(text)) == (2, byte_length(text))
    assert own.most("pão de") == 2


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "missing.json"):
        with pytest.raises(SettingsError, match=name):
            tokenizer_of(Deployment(model="m", tokenizer=name), tmp_path)


@pytest.mark.parametrize("text", [ENGLISH * 20, PORTUGUESE * 20, '{"id": 7, "on": true}\n' * 50])
def test_the_estimate_is_of_the_right_size(text: str) -> None:
    estimate = Estimate().count(text)
    for name in ("cl100k_base", "o200k_base"):
        assert 0.6 < estimate / Encoding(name).count(text) < 1.6


def test_nothing_is_estimated_as_nothing() -> None:
    assert (Estimate().count(""), Estimate().least(""), Estimate().count("i")) == (0, 0, 1)


TEXTS = st.text(max_size=300) | st.builds(str.__mul__, st.text(max_size=5), st.integers(0, 400))


@given(TEXTS, st.sampled_from(["cl100k_base", "o200k_base"]))
def test_the_bounds_hold_for_every_text(text: str, name: str) -> None:
    encoding, estimate = Encoding(name), Estimate()
    count = encoding.count(text)
    assert encoding.least(text) <= count <= encoding.most(text) <= byte_length(text)
    assert estimate.least(text) <= count <= estimate.most(text)
