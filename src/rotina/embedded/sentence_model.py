"""The folder of a sentence-transformers model, as its publisher has it: what its files say.

It holds `tokenizer.json`, `model.onnx` (or `onnx/model.onnx`) and the files that say how texts
become vectors: `modules.json`, the pooling module's `config.json`, and where they are,
`sentence_bert_config.json` and `config.json` (how many tokens are read). Nothing is downloaded.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from rotina.errors import EmbeddedError

USUAL_TOKENS = 512
"""What a text may have where no file says it: as many as BERT has positions."""
Pooling = Literal["cls", "mean", "max"]
_MODES: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class SentenceModel:
    """What the files of a folder say."""

    name: str
    """The folder's own."""
    tokenizer: Path
    weights: Path
    pooling: Pooling
    normalised: bool
    """Whether vectors have length 1."""
    tokens: int
    """The most that a text may have, those at its beginning and end included."""
    lower_case: bool


def read_model(folder: Path) -> SentenceModel:
    """Raises `EmbeddedError` for a folder that lacks a file, or asks for what is not offered."""
    modules = _modules(folder)
    place = modules["Pooling"]
    own = _read(folder / "sentence_bert_config.json") or {}
    general = _read(folder / "config.json") or {}
    weights = [folder / "model.onnx", folder / "onnx" / "model.onnx"]
    return SentenceModel(
        name=folder.resolve().name,
        tokenizer=_first(folder, [folder / "tokenizer.json"]),
        weights=_first(folder, weights),
        pooling=_pooling(folder / place / "config.json"),
        normalised="Normalize" in modules,
        tokens=own.get("max_seq_length") or general.get("max_position_embeddings") or USUAL_TOKENS,
        lower_case=bool(own.get("do_lower_case")),
    )


def _modules(folder: Path) -> dict[str, str]:
    """The folder of each module, by the module's kind."""
    listed = _read(folder / "modules.json")
    entries = listed if isinstance(listed, list) else []
    found = {
        str(each["type"]).rpartition(".")[2]: str(each["path"])
        for each in entries
        if isinstance(each, dict) and {"type", "path"} <= set(each)
    }
    if not found:
        raise EmbeddedError(
            f"{folder} has no modules.json that lists modules: name the folder of a "
            "sentence-transformers model"
        )
    others = set(found) - {"Transformer", "Pooling", "Normalize"}
    if others or "Pooling" not in found:
        told = ", ".join(sorted(others)) or "no Pooling"
        raise EmbeddedError(
            f"{folder / 'modules.json'} has {told}: a model of Transformer, Pooling and, if it "
            "likes, Normalize can be served"
        )
    return found


def _pooling(path: Path) -> Pooling:
    given = _read(path) or {}
    modes = [mode for mode, wanted in given.items() if mode.startswith("pooling_mode_") and wanted]
    named = given.get("pooling_mode")
    if named in _MODES.values():
        return cast("Pooling", named)
    if len(modes) == 1 and modes[0] in _MODES:
        return _MODES[modes[0]]
    told = named or ", ".join(modes) or "nothing"
    raise EmbeddedError(f"{path} asks for {told}: cls, mean or max pooling can be served")


def _first(folder: Path, paths: Sequence[Path]) -> Path:
    for path in paths:
        if path.is_file():
            return path
    names = " or ".join(str(path.relative_to(folder)) for path in paths)
    raise EmbeddedError(f"{folder} has no {names}: export the model to ONNX, with its tokenizer")


def _read(path: Path) -> Any:
    """JSON, or None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"{path} cannot be read as JSON: {error}") from None
