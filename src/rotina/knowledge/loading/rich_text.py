"""The text of RTF that Outlook has compressed (MS-OXRTFCP)."""

from typing import Any

from compressed_rtf import decompress
from striprtf import striprtf

_LIBRARY: Any = striprtf  # its functions have no types


def rich_text(compressed: bytes) -> str:
    """What a reader sees of it; nothing of nothing."""
    if not compressed:
        return ""
    return str(_LIBRARY.rtf_to_text(decompress(compressed).decode("latin-1"), errors="ignore"))
