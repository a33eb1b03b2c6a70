"""The text of RTF that Outlook has compressed (MS-OXRTFCP)."""

from compressed_rtf import decompress
from striprtf.striprtf import rtf_to_text


def rich_text(compressed: bytes) -> str:
    """What a reader sees of it; nothing of nothing."""
    if not compressed:
        return ""
    return str(rtf_to_text(decompress(compressed).decode("latin-1"), errors="ignore"))
