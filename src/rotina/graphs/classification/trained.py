"""Trained heads of this process: each trained once, a bounded number kept."""

import asyncio
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

from rotina.gateway import Gateway
from rotina.graphs.classification.classification import Classification
from rotina.graphs.classification.head import Head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

MOST_HEADS = 16
"""A head of 77 labels and 8,000 examples takes about 60 MB, one of 10 labels and 100 under 1."""

Key = tuple[str, str, int]
"""Declaration, embedding model, dimensions: vectors of another model would mean nothing."""


class Heads:
    """A cache of heads, the least recently used leaves first. Meant for one thread's event loops.

    Callers that need the same head at once wait for one training; that one goes on if a caller
    is cancelled, and is begun anew by the next if it fails.
    """

    def __init__(self, most: int = MOST_HEADS) -> None:
        self._most = most
        self._ready: OrderedDict[Key, Head] = OrderedDict()
        # A task belongs to its loop: another loop (a test's, a second runtime's) has its own.
        self._training: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[Key, asyncio.Task[Head]]
        ] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._ready)

    async def get(
        self, declaration: Classification, gateway: Gateway, model: str, dimensions: int
    ) -> Head:
        """The head for vectors of `model`. Raises a `ModelError` when embedding fails."""
        key = (declaration.fingerprint, model, dimensions)
        if (head := self._ready.get(key)) is not None:
            self._ready.move_to_end(key)
            return head
        training = self._training.setdefault(asyncio.get_running_loop(), {})
        task = training.get(key)
        if task is None:
            task = asyncio.create_task(_train(declaration, gateway))
            training[key] = task
            task.add_done_callback(lambda done: self._finish(training, key, done))
        return await asyncio.shield(task)

    def _finish(
        self, training: dict[Key, asyncio.Task[Head]], key: Key, done: asyncio.Task[Head]
    ) -> None:
        del training[key]
        if done.cancelled() or done.exception() is not None:
            return  # whoever waits gets it; nobody waiting means nobody cares
        self._ready[key] = done.result()
        while len(self._ready) > self._most:
            self._ready.popitem(last=False)


async def _train(declaration: Classification, gateway: Gateway) -> Head:
    texts = [text for text, _ in declaration.rows]
    # The head belongs to the process, not to the run that happened to come first.
    embedded = await gateway.embed(texts, route=declaration.embedding_route, record=False)
    return await asyncio.to_thread(Head.train, declaration, as_matrix(embedded.vectors))


def as_matrix(vectors: list[list[float]]) -> "Matrix":
    """Vectors as an array of shape (texts, dimensions)."""
    import numpy as np  # noqa: PLC0415 - importing a declaration must stay light

    return np.array(vectors, dtype=np.float32)


HEADS = Heads()
"""Those of this process: heads hold no tenant's data, only what declarations say."""
