"""A stream that breaks off is gone on with by another deployment, where its route allows it.

What the caller has seen cannot be taken back, so the next model is shown it and asked for the rest.
The rest is another model's: it may fit badly. Hence only where a route asks for it, and never for
JSON or tool calls, of which two halves make no whole.
"""

from dataclasses import replace

from rotina.gateway.answer import ChatChunk, ChatRequest, Message

ENOUGH = 200
"""Characters of the rest in which a repetition of what came before is looked for."""
REPEATED = 8
"""Characters that are no accident."""
_TASK = (
    "Your answer broke off. Write what follows its last character and nothing else: do not repeat, "
    "do not comment, do not begin anew. Go on in the same language."
)


def may_go_on(request: ChatRequest, text: str) -> bool:
    """Whether the rest of an answer that begins with `text` can be asked for."""
    return request.schema is None and not request.tools and bool(text.strip())


def rest_of(request: ChatRequest, text: str) -> ChatRequest:
    """The request for what is missing after `text`."""
    said = [Message(role="assistant", content=text), Message(role="user", content=_TASK)]
    return replace(request, messages=[*request.messages, *said])


class Seam:
    """Joins the rest to what came before: leaves out what is said again."""

    def __init__(self, before: str) -> None:
        self._before = before
        self._kept = ""
        self._joined = False

    def feed(self, chunk: ChatChunk) -> ChatChunk:
        """The next piece of the rest; the first ones wait for each other."""
        if self._joined:
            return chunk
        self._kept += chunk.text
        if len(self._kept) < ENOUGH and chunk.finish_reason is None:
            return chunk.model_copy(update={"text": ""})
        self._joined = True
        return chunk.model_copy(update={"text": self._kept[self._repeated() :]})

    def _repeated(self) -> int:
        """The length of the longest beginning of the rest that ends what came before."""
        for length in range(min(len(self._kept), len(self._before)), REPEATED - 1, -1):
            if self._before.endswith(self._kept[:length]):
                return length
        return 0
