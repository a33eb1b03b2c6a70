"""What one document may cost."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from rotina.settings import Settings


class Limits(BaseModel):
    """Bounds on one document; whatever crosses one ends in `DocumentTooLargeError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=50_000_000, ge=1)
    """Size of the file; the setting `max_file_bytes`."""
    max_pages: int = Field(default=200, ge=1)
    """Pages of a PDF, sheets of a workbook."""
    seconds: float = Field(default=60.0, gt=0)
    """Wall time of the child process; `load` in this process does not watch the clock."""
    memory_mb: int = Field(default=1024, ge=16)
    """Mebibytes that the child process may take beyond its own start; where the platform can."""
    max_text_chars: int = Field(default=10_000_000, ge=1)
    """Characters of the resulting text."""
    max_unzipped_bytes: int = Field(default=200_000_000, ge=1)
    """Bytes that a DOCX or XLSX may unpack to."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The limits that the settings name; the others keep their defaults."""
        return cls(
            max_bytes=settings.max_file_bytes,
            max_pages=settings.max_pages,
            seconds=settings.parse_seconds,
            memory_mb=settings.parse_memory_mb,
        )
