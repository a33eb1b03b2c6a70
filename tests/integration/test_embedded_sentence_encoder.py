"""A sentence-transformers model out of a folder: read, run, served by a real process."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rotina.embedded import embedding_server, models
from rotina.embedded.process import free_port
from rotina.embedded.sentence_encoder import SentenceEncoder
from rotina.embedded.sentence_model import read_model
from rotina.errors import ContextTooLongError, EmbeddedError
from rotina.gateway import Gateway
from rotina.settings import Settings
from tests.sentence_model import DIMENSIONS, WORDS, word_vectors, write_model


def expected(text: str, pooling: str = "mean", *, normalised: bool = True) -> Any:
    """What the tiny model says of a text, by numpy."""
    known = {word: n for n, word in enumerate(WORDS)}
    ids = [2, *(known.get(word, 1) for word in text.split()), 3]
    each = word_vectors()[ids]
    hidden = each + each.mean(axis=0)
    vector = {"mean": hidden.mean(axis=0), "cls": hidden[0], "max": hidden.max(axis=0)}[pooling]
    return vector / np.linalg.norm(vector) if normalised else vector


def encode(folder: Path, *texts: str) -> Any:
    return np.stack(SentenceEncoder(read_model(folder)).encode(texts))


@pytest.mark.parametrize(
    ("given", "pooling"),
    [
        (None, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling_is_what_the_folder_says(tmp_path: Path, given: Any, pooling: str) -> None:
    folder = write_model(tmp_path / "tiny", pooling=given, place="onnx/model.onnx")
    found = encode(folder, "red green", "blue")
    assert np.allclose(found, [expected("red green", pooling), expected("blue", pooling)], 1e-5)


def test_vectors_are_as_long_as_the_folder_says(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny", normalised=False)
    assert np.allclose(encode(folder, "red"), [expected("red", normalised=False)], 1e-5)
    folder = write_model(tmp_path / "low", own={"max_seq_length": 9, "do_lower_case": True})
    assert np.allclose(encode(folder, "Big"), [expected("big")], 1e-5)


def test_a_vector_does_not_hang_on_those_beside_it(tmp_path: Path) -> None:
    encoder = SentenceEncoder(read_model(write_model(tmp_path / "tiny")))
    chance = np.random.default_rng(1)
    texts = [" ".join(chance.choice(WORDS[4:], size=chance.integers(1, 60))) for _ in range(90)]
    together = np.stack(encoder.encode(texts))
    alone = np.stack([encoder.encode([text])[0] for text in texts])
    assert np.abs(together - alone).max() < 1e-5
    assert np.allclose(together, [expected(text) for text in texts], atol=1e-5)
    assert encoder.encode([]) == []


def test_nothing_is_cut_in_silence(tmp_path: Path) -> None:
    encoder = SentenceEncoder(read_model(write_model(tmp_path / "tiny")))
    assert len(encoder.encode(["red " * 62])) == 1
    with pytest.raises(
        ContextTooLongError, match="text 1 has 65 tokens, and tiny reads at most 64"
    ):
        encoder.encode(["red", "red " * 63])


def test_the_limit_is_where_the_files_have_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny", own={"other": 1})
    assert read_model(folder).tokens == 512
    (folder / "config.json").write_text('{"max_position_embeddings": 77}')
    assert read_model(folder).tokens == 77


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", None, "has no modules.json"),
        ("modules.json", "[]", "has no modules.json"),
        ("modules.json", "{", "modules.json cannot be read as JSON"),
        ("modules.json", '[{"type": "a.Dense", "path": "d"}]', "has Dense"),
        ("modules.json", '[{"type": "a.Transformer", "path": ""}]', "has no Pooling"),
        ("1_Pooling/config.json", '{"pooling_mode_lasttoken": true}', "asks for pooling_mode_last"),
        ("1_Pooling/config.json", None, "asks for nothing"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", "{}", "no readable tokenizer.json"),
        ("model.onnx", None, "has no model.onnx or onnx/model.onnx"),
        ("model.onnx", "no model", "no readable ONNX model"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_served_is_refused(
    tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    folder = write_model(tmp_path / "tiny")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(EmbeddedError, match=message):
        SentenceEncoder(read_model(folder))


async def test_it_is_served_to_the_gateway(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    port = free_port()
    server = models.embedding_server(
        tmp_path / "data", path=folder, port=port, served=read_model(folder)
    )
    process = await asyncio.create_subprocess_exec(
        *map(str, server.program.command), env={**os.environ, **server.program.environment}
    )
    try:
        while not server.ready():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        settings = Settings(
            deployments={"one": server.deployment}, routes={"embed": {"deployments": ["one"]}}
        )
        async with Gateway(settings) as gateway:
            found = await gateway.embed(["red green", "blue"])
            with pytest.raises(ContextTooLongError, match="reads at most 64"):
                await gateway.embed(["red " * 100])
            room = gateway.room("embed")
            assert (room.holds("red " * 40), room.holds("red " * 60)) == (True, False)
    finally:
        process.terminate()
        await process.wait()
    assert found.model == "tiny"
    assert np.allclose(found.vectors, [expected("red green"), expected("blue")], 1e-5)
    assert len(found.vectors[0]) == DIMENSIONS


def test_what_cannot_be_served_ends_the_program(tmp_path: Path) -> None:
    configuration = tmp_path / "server.json"
    values = {"model": "x", "path": str(tmp_path), "port": 1, "api_key": "k", "threads": 1}
    configuration.write_text(json.dumps(values))
    with pytest.raises(EmbeddedError, match="has no modules"):
        embedding_server.main(configuration)
