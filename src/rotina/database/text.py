"""Text as PostgreSQL and UTF-8 can hold it."""


def storable(text: str) -> str:
    """Without NUL and lone surrogates, which neither jsonb nor a log in UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
