"""The cheap path: a linear head and nearest neighbours, trained on the declared examples.

The probabilities are calibrated by one temperature (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017). How usual a text is compared with the examples is a conformal p-value (Bates
et al., "Testing for Outliers with Conformal p-Values", 2023) of its best linear score (Hendrycks
et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022). Both come from
cross-validation on the examples themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotina.graphs.classification.classification import Classification
from rotina.graphs.classification.features import Spelling, combine, unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotina.graphs.classification.features import Matrix

    Scores = NDArray[np.float64]
    Names = NDArray[np.str_]

REGULARISATION = 20.0
"""Inverse strength; on rows of length 1 the accuracy is flat from 10 to 100."""
FOLDS = 5
ENOUGH_TO_HOLD_OUT = 2000
"""Examples from which one fold says enough."""
FEWEST_HELD_OUT = 20
"""Below this a temperature would be noise."""
NEAREST = 12
_MOST_ROUNDS = 1000
_LARGEST_LOG_TEMPERATURE = 1.6


@dataclass(frozen=True)
class Prediction:
    """What the head says about one text."""

    ranking: list[tuple[str, float]]
    """Every label with its probability, best first."""
    support: float
    """The share of held-out examples that have no more to speak for them: of texts like the
    examples, a share s has a support of at most s."""
    nearest: list[tuple[str, str]]
    """The most similar examples and their labels, nearest first."""


@dataclass(frozen=True)
class Linear:
    """A trained logistic regression, without scikit-learn's checks on every call."""

    names: "Names"
    weights: "Matrix"
    """(dimensions, labels)"""
    bias: "Matrix"

    @classmethod
    def fit(cls, features: "Matrix", names: "Names") -> "Linear":
        """Multinomial, with `REGULARISATION`."""
        import numpy as np  # noqa: PLC0415
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

        fitted = LogisticRegression(C=REGULARISATION, max_iter=_MOST_ROUNDS).fit(features, names)
        weights, bias = fitted.coef_, fitted.intercept_
        if len(weights) == 1:  # of two labels it keeps the difference only
            weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
        return cls(fitted.classes_, np.ascontiguousarray(weights.T), bias)

    def scores(self, features: "Matrix") -> "Scores":
        """Shape (rows, labels): the logarithms of the probabilities, up to a constant a row."""
        import numpy as np  # noqa: PLC0415

        return np.asarray(features @ self.weights + self.bias, dtype=np.float64)


@dataclass(frozen=True)
class Head:
    """A trained head; safe to use from several threads."""

    linear: Linear
    spelling: Spelling
    rows: Sequence[tuple[str, str]]
    examples: int
    embeddings: "Matrix"
    """(rows, dimensions), rows of length 1"""
    temperature: float
    usual: "Scores"
    """The best score of each held-out example, ascending."""

    @classmethod
    def train(cls, declaration: Classification, vectors: "Matrix") -> "Head":
        """From the embeddings of `declaration.rows`. Takes seconds for thousands of rows."""
        import numpy as np  # noqa: PLC0415 - importing a declaration must stay light

        texts = [text for text, _ in declaration.rows]
        names = np.array([name for _, name in declaration.rows])
        embeddings = unit(vectors)
        spelling = Spelling.learn(texts)
        features = combine(embeddings, spelling.read(texts))
        held_out = _hold_out(features, names, declaration.examples)
        return cls(
            linear=Linear.fit(features, names),
            spelling=spelling,
            rows=declaration.rows,
            examples=declaration.examples,
            embeddings=embeddings,
            temperature=_temperature(held_out),
            usual=np.sort(held_out.scores.max(axis=1)),
        )

    def predict(self, texts: Sequence[str], vectors: "Matrix") -> list[Prediction]:
        """What it says about each text; `vectors` are the texts' embeddings, one a row."""
        import numpy as np  # noqa: PLC0415

        given = unit(vectors)
        features = combine(given, self.spelling.read(texts))
        scores = self.linear.scores(features)
        probabilities = _softmax(scores, self.temperature)
        similarities = given @ self.embeddings.T
        lower = np.searchsorted(self.usual, scores.max(axis=1), side="right")
        support = (1 + lower) / (1 + len(self.usual))
        order = np.argsort(-probabilities, axis=1, kind="stable")
        names = self.linear.names
        return [
            Prediction(
                ranking=[(str(names[i]), float(probabilities[row, i])) for i in order[row]],
                support=float(support[row]),
                nearest=self._nearest(similarities[row]),
            )
            for row in range(len(texts))
        ]

    def _nearest(self, similarities: "Matrix") -> list[tuple[str, str]]:
        import numpy as np  # noqa: PLC0415

        first = len(self.rows) - self.examples  # names and descriptions are no examples to show
        best = np.argsort(-similarities[first:], kind="stable")[:NEAREST]
        return [self.rows[first + int(index)] for index in best]


@dataclass(frozen=True)
class _HeldOut:
    """What heads that had not seen them say about examples."""

    scores: "Scores"
    truth: "NDArray[np.intp]"
    """Column of each one's label."""


def _hold_out(features: "Matrix", names: "Names", examples: int) -> _HeldOut:
    """Train without a part of the examples, ask about it; names and descriptions always stay."""
    import numpy as np  # noqa: PLC0415

    labels = np.unique(names)
    part = np.full(len(names), -1)
    # Of each label every fifth example: a label of few is spread over the parts.
    for name in labels:
        own = np.flatnonzero(names == name)
        own = own[own >= len(names) - examples]
        part[own] = np.random.default_rng(len(own)).permutation(len(own)) % FOLDS
    scores, truth = [np.empty((0, len(labels)))], [np.empty(0, int)]
    for fold in range(1 if examples >= ENOUGH_TO_HOLD_OUT else FOLDS):
        out = part == fold
        if not out.any():
            continue
        linear = Linear.fit(features[~out], names[~out])
        scores.append(linear.scores(features[out]))
        truth.append(np.searchsorted(labels, names[out]))
    return _HeldOut(np.vstack(scores), np.concatenate(truth))


def _softmax(scores: "Scores", temperature: float) -> "Scores":
    import numpy as np  # noqa: PLC0415

    scaled = scores / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _temperature(held_out: _HeldOut) -> float:
    """The temperature that makes the held-out labels most likely.

    One more example is counted as wrong, as in Platt's scaling ("Probabilistic Outputs for Support
    Vector Machines", 1999): where few examples are all right, none is held to be certain.
    """
    import numpy as np  # noqa: PLC0415

    if len(held_out.truth) < FEWEST_HELD_OUT:
        return 1.0
    rows = np.arange(len(held_out.truth))
    doubt = 1 / (len(rows) + 2)
    candidates = np.exp(np.linspace(-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE, 65))
    losses = []
    for temperature in candidates:
        logs = np.log(_softmax(held_out.scores, temperature) + 1e-12)
        right = logs[rows, held_out.truth]
        wrong = (logs.sum(axis=1) - right) / (logs.shape[1] - 1)
        losses.append(-((1 - doubt) * right + doubt * wrong).mean())
    return float(candidates[int(np.argmin(losses))])
