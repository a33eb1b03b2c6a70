"""A sentence-transformers model in ONNX form, run by onnxruntime on one processor a thread.

Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP 2019.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rotina.embedded.sentence_model import Pooling, SentenceModel
from rotina.errors import ContextTooLongError, EmbeddedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Tokens = NDArray[np.int64]

BATCH_TEXTS = 32
BATCH_TOKENS = 2048
"""Of one run, padding included: what is multiplied at once stays in the processor's cache."""


class SentenceEncoder:
    """The model, loaded once; safe to call from several threads, each of which uses one processor.

    Texts are run in batches of similar length. A vector does not depend on those beside it, but
    for the last bits of its floats: padding is masked, and nothing is quantised over a batch.
    """

    def __init__(self, model: SentenceModel) -> None:
        """Raises `EmbeddedError` for files that cannot be used."""
        self._model = model
        self._tokenizer = _load_tokenizer(model.tokenizer)
        self._session, self._output = _load_session(model.weights)
        self._inputs = {each.name for each in self._session.get_inputs()}
        self.dimensions = len(self.encode(["a"])[0])

    def encode(self, texts: Sequence[str]) -> "list[Floats]":
        """One vector of shape (dimensions,), float32, for each text.

        Raises `ContextTooLongError` for a text that the model would read in part only.
        """
        if self._model.lower_case:
            texts = [text.lower() for text in texts]
        found = self._tokenizer.encode_batch(list(texts))
        lengths = [len(each.ids) for each in found]
        for number, length in enumerate(lengths):
            if length > self._model.tokens:
                raise ContextTooLongError(
                    f"text {number} has {length} tokens, and {self._model.name} reads at most "
                    f"{self._model.tokens}: send shorter texts"
                )
        vectors: list[Any] = [None] * len(found)
        for places in _batches(lengths):
            rows = self._run([found[place].ids for place in places])
            for place, row in zip(places, rows, strict=True):
                vectors[place] = row
        return vectors

    def _run(self, batch: Sequence[Sequence[int]]) -> "Floats":
        import numpy as np  # noqa: PLC0415 - only the server's process needs it

        shape = len(batch), max(map(len, batch))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        asked = {name: given[name] for name in self._inputs}
        (hidden,) = self._session.run([self._output], asked)
        vectors = _pooled(hidden, mask, self._model.pooling)
        if self._model.normalised:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return vectors


def _pooled(hidden: "Floats", mask: "Tokens", pooling: Pooling) -> "Floats":
    """From shape (texts, tokens, dimensions) to (texts, dimensions)."""
    import numpy as np  # noqa: PLC0415 - as above

    read = mask[..., None].astype(np.float32)
    if pooling == "cls":
        return hidden[:, 0].copy()
    if pooling == "mean":
        return cast("Floats", (hidden * read).sum(axis=1) / read.sum(axis=1))
    return cast("Floats", np.where(read > 0, hidden, -np.inf).max(axis=1))


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts, the longest first, so that hardly anything is padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        most = max(1, min(BATCH_TEXTS, BATCH_TOKENS // max(1, lengths[batch[0]]))) if batch else 1
        if batch and len(batch) >= most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _load_tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra
    except ImportError:
        raise EmbeddedError(
            "A sentence-transformers model needs the library tokenizers: "
            "pip install 'rotina[tokenizers]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise EmbeddedError(f"{path} is no readable tokenizer.json: {error}") from None
    # The file may ask for both, and would then cut in silence.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_session(path: Path) -> tuple[Any, str]:
    """The session, and the name of its output with a vector a token."""
    import onnxruntime  # noqa: PLC0415 - only the server's process needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # requests run side by side instead
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - of many kinds, by the library's version
        raise EmbeddedError(f"{path} is no readable ONNX model: {error}") from None
    strangers = {each.name for each in session.get_inputs()} - {
        "input_ids", "attention_mask", "token_type_ids",
    }  # fmt: skip
    if strangers:
        raise EmbeddedError(f"{path} wants the inputs {', '.join(sorted(strangers))}, unknown here")
    for output in session.get_outputs():
        if len(output.shape) == 3:  # noqa: PLR2004 - texts, tokens, dimensions
            return session, output.name
    raise EmbeddedError(f"{path} has no output with a vector a token: export it without pooling")
