"""A tiny sentence-transformers model, made here: a folder that the embedding server can serve.

Its words have vectors, a token's hidden state is its word's plus the mean of all that the mask lets
through, so a vector shows whether padding was masked and how tokens were pooled.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "Big", "big"]
DIMENSIONS = 6


def word_vectors() -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Of shape (words, dimensions); that of padding is the largest."""
    chance = np.random.default_rng(7)
    found = chance.normal(size=(len(WORDS), DIMENSIONS)).astype(np.float32)
    found[0] = 100
    return found


def write_model(
    folder: Path,
    *,
    pooling: dict[str, Any] | None = None,
    normalised: bool = True,
    place: str = "model.onnx",
    own: dict[str, Any] | None = None,
) -> Path:
    """Write the folder, with these module settings; returns it."""
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    if not normalised:
        kinds.pop("Normalize")
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(kinds.items())
    ]
    _write(folder / "modules.json", modules)
    mean = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    _write(folder / "1_Pooling" / "config.json", pooling or mean)
    _write(folder / "sentence_bert_config.json", own or {"max_seq_length": 64})
    _tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(_network(), str(folder / place))
    return folder


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _tokenizer() -> Tokenizer:
    """Words between `[CLS]` and `[SEP]`; the file asks for truncation and padding, as many do."""
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(4)
    made.enable_padding(length=16)
    return made


def _network() -> onnx.ModelProto:
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    )
    shape: list[str | int | None] = ["texts", "tokens", DIMENSIONS]
    hidden = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "last"], ["read"]),
        helper.make_node("Mul", ["each", "read"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens_axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["read", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Add", ["each", "mean"], ["last_hidden_state"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "words": word_vectors(),
        "last": np.array([2], dtype=np.int64),
        "tokens_axis": np.array([1], dtype=np.int64),
    }
    given = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [ids, mask], [hidden], given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
