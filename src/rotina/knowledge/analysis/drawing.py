"""The packages of the extra `plots`; importing this raises `KnowledgeError` without them."""

from rotina.errors import KnowledgeError

try:
    import altair as alt

    # It draws.
    import vl_convert
except ImportError as error:
    raise KnowledgeError(
        f"Plots need a package that is not installed ({error.name}): pip install 'rotina[plots]'"
    ) from None

__all__ = ["alt", "vl_convert"]
