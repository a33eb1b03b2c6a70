"""PDF through PDFium, a page at a time; pages without text through OCR where it is installed."""

from collections.abc import Iterator
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from rotina.errors import CorruptDocumentError, DocumentTooLargeError, EncryptedDocumentError
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.ocr import is_available, read_picture
from rotina.knowledge.loading.pdf_glyphs import segments
from rotina.knowledge.loading.pdf_layout import page_text
from rotina.knowledge.loading.text import Parsed, check_length, one_line

_METADATA = {"Title": "title", "Author": "author", "Subject": "subject", "CreationDate": "created"}
_SHOWN_PAGES = 20
_SCALE = 200 / 72
"""Pixels a point for OCR: 200 dots an inch."""
_MOST_PIXELS = 20_000_000


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
        read: list[int] = []
        length = 0
        for number, (text, by_ocr) in enumerate(_texts(document), 1):
            length += len(text)
            check_length(length, limits.max_text_chars)
            texts.append(text)
            read += [number] * by_ocr
        metadata = _metadata(document)
    finally:
        document.close()
    blank = [number for number, text in enumerate(texts, 1) if not text.strip()]
    if read:
        metadata["pages_by_ocr"] = _listed(read)
    if blank:  # what these say, if anything, is not in the result
        metadata["pages_without_text"] = _listed(blank)
    return Parsed(texts, paged=True, metadata=metadata)


def _listed(pages: list[int]) -> str:
    shown = ", ".join(map(str, pages[:_SHOWN_PAGES]))
    return f"{shown}, …" if len(pages) > _SHOWN_PAGES else shown


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


def _texts(document: Any) -> Iterator[tuple[str, bool]]:
    """The text of each page, and whether it was read by OCR."""
    for index in range(len(document)):
        try:
            page = document[index]
        except pdfium.PdfiumError as error:
            raise CorruptDocumentError(
                f"page {index + 1} of the PDF is damaged: save and send it again"
            ) from error
        try:
            text = page_text(segments(page))
            if text.strip() or not is_available() or _is_empty(page):
                yield text, False
            else:
                text = read_picture(_picture(page))
                yield text, bool(text.strip())
        finally:
            page.close()


def _is_empty(page: Any) -> bool:
    """Whether nothing at all is on the page."""
    return next(iter(page.get_objects(max_depth=1)), None) is None


def _picture(page: Any) -> Any:
    """The page as a viewer shows it."""
    width, height = page.get_size()
    scale = min(_SCALE, (_MOST_PIXELS / max(width * height, 1)) ** 0.5)
    bitmap = page.render(scale=scale)
    try:
        return bitmap.to_pil().copy()
    finally:
        bitmap.close()


def _metadata(document: Any) -> dict[str, str]:
    found = document.get_metadata_dict(skip_empty=True)
    return {key: found[name] for name, key in _METADATA.items() if name in found}
