"""PDF through PDFium, a page at a time."""

from collections.abc import Iterator
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from rotina.errors import CorruptDocumentError, DocumentTooLargeError, EncryptedDocumentError
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.pdf_glyphs import segments
from rotina.knowledge.loading.pdf_layout import page_text
from rotina.knowledge.loading.text import Parsed, check_length, one_line

_METADATA = {"Title": "title", "Author": "author", "Subject": "subject", "CreationDate": "created"}
_SHOWN_PAGES = 20


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read a PDF; a password that is empty opens by itself, as in any viewer."""
    document = _open(content)
    try:
        if len(document) > limits.max_pages:
            raise DocumentTooLargeError(
                f"the PDF has {len(document)} pages and {limits.max_pages} are allowed: "
                "split it, or raise the setting max_pages"
            )
        texts = []
        left = limits.max_text_chars
        for text in _texts(document):
            left -= len(text)
            check_length(limits.max_text_chars - left, limits.max_text_chars)
            texts.append(text)
        metadata = _metadata(document)
    finally:
        document.close()
    blank = [str(number) for number, text in enumerate(texts, 1) if not text.strip()]
    if blank:  # scans between pages of text: what they say is not in the result
        metadata["pages_without_text"] = ", ".join(blank[:_SHOWN_PAGES]) + (
            ", …" if len(blank) > _SHOWN_PAGES else ""
        )
    return Parsed(texts, paged=True, metadata=metadata)


def _open(content: bytes) -> Any:
    try:
        return pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if error.err_code in {pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY}:
            raise EncryptedDocumentError(
                "the PDF needs a password: save it without one and send it again"
            ) from error
        raise CorruptDocumentError(
            f"the PDF is damaged or cut short ({one_line(str(error))}): save and send it again"
        ) from error


def _texts(document: Any) -> Iterator[str]:
    for index in range(len(document)):
        try:
            page = document[index]
        except pdfium.PdfiumError as error:
            raise CorruptDocumentError(
                f"page {index + 1} of the PDF is damaged: save and send it again"
            ) from error
        try:
            yield page_text(segments(page))
        finally:
            page.close()


def _metadata(document: Any) -> dict[str, str]:
    found = document.get_metadata_dict(skip_empty=True)
    return {key: found[name] for name, key in _METADATA.items() if name in found}
