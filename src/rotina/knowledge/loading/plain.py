"""Plain text and Markdown, kept as they are."""

from rotina.knowledge.loading.charset import decode
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.text import Parsed


def parse(content: bytes, limits: Limits) -> Parsed:  # noqa: ARG001 - the parsers' common form
    """Decode `content`; its charset is in the metadata."""
    text, charset = decode(content)
    return Parsed([text], metadata={"charset": charset})
