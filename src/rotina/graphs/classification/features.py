"""Texts as rows of numbers: the embedding beside what its words and letters say.

A text's features are `[√(1-w)·embedding, √w·spelling]`, both of length at most 1, so that their dot
product is the weighted mean of two similarities: of meaning and of wording. `spelling` stands for
TF-IDF over words, word pairs and letter n-grams, brought to `LANDMARKS` dimensions by the Nyström
method (Williams & Seeger, "Using the Nyström Method to Speed Up Kernel Machines", NIPS 2000),
which is exact as long as there are no more texts than landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

LANDMARKS = 1024
SPELLING_WEIGHT = 0.35
_SMALLEST_EIGENVALUE = 1e-5
_BLOCK = 2000
"""Texts turned into features at once: bounds the memory of many."""


def unit(matrix: "Matrix") -> "Matrix":
    """The rows scaled to length 1; a row of zeros stays."""
    import numpy as np  # noqa: PLC0415 - importing a declaration must stay light

    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(lengths > 0, lengths, 1), dtype=np.float32)


@dataclass(frozen=True)
class Spelling:
    """Learned from texts: which words and letters are rare, and what to compare with."""

    kinds: Sequence[tuple[Any, Any]]
    """A fitted TfidfVectorizer and the landmarks in its terms, sparse (terms, landmarks)."""
    projection: "Matrix"
    """(landmarks, dimensions)"""

    @classmethod
    def learn(cls, texts: Sequence[str]) -> "Spelling":
        """From all texts of a declaration; the landmarks are spread evenly over them."""
        import numpy as np  # noqa: PLC0415

        chosen = np.unique(np.linspace(0, len(texts) - 1, LANDMARKS).astype(int))
        landmarks = [texts[index] for index in chosen]
        fitted = [vectorizer.fit(texts) for vectorizer in _vectorizers()]
        kinds = [(one, one.transform(landmarks).T.tocsr()) for one in fitted]
        values, vectors = np.linalg.eigh(_similarities(kinds, landmarks).astype(np.float64))
        kept = values > _SMALLEST_EIGENVALUE
        projection = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        return cls(kinds, projection)

    def read(self, texts: Sequence[str]) -> "Matrix":
        """Features of shape (texts, dimensions), rows of length at most 1."""
        import numpy as np  # noqa: PLC0415

        starts = range(0, len(texts), _BLOCK)
        blocks = [_similarities(self.kinds, texts[start : start + _BLOCK]) for start in starts]
        return np.vstack([block @ self.projection for block in blocks])


def _vectorizers() -> list[Any]:
    """For words and word pairs, and for the letters in words."""
    import numpy as np  # noqa: PLC0415
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

    # People leave accents out: "nao" must meet "não".
    common: dict[str, Any] = {
        "sublinear_tf": True,
        "strip_accents": "unicode",
        "dtype": np.float32,
    }
    words = TfidfVectorizer(
        ngram_range=(1, 2),
        token_pattern=r"\w+|[^\w\s]",  # noqa: S106 - a pattern for words, no password
        **common,
    )
    return [words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common)]


def _similarities(kinds: Sequence[tuple[Any, Any]], texts: Sequence[str]) -> "Matrix":
    """Cosine similarity to each landmark, the mean of the kinds: (texts, landmarks)."""
    found = [(vectorizer.transform(texts) @ marks).toarray() for vectorizer, marks in kinds]
    matrix: Matrix = sum(found[1:], found[0]) / len(found)
    return matrix


def combine(embeddings: "Matrix", spelling: "Matrix") -> "Matrix":
    """Both kinds of features side by side, weighted."""
    import numpy as np  # noqa: PLC0415

    parts = [np.sqrt(1 - SPELLING_WEIGHT) * embeddings, np.sqrt(SPELLING_WEIGHT) * spelling]
    return np.hstack(parts).astype(np.float32)
