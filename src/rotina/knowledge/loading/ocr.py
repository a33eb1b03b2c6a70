"""Text in pictures, read by RapidOCR's models on ONNX Runtime (the extra `rotina[ocr]`).

The models (PP-OCRv6, Apache-2.0: detection, direction, recognition) lie in the wheel; nothing is
downloaded. Lines come back as segments with their place, and the layout of PDF pages puts them in
order.
"""

import functools
import math
import re
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rotina.errors import UnsupportedDocumentError

if TYPE_CHECKING:
    from PIL.Image import Image

    from rotina.knowledge.loading.pdf_glyphs import Segment

EXTRA = "pip install 'rotina[ocr]'"
_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
MODELS_MB = 1024
"""MiB of address space that the models and their work on a page take; about 500 are used."""
_THREADS = 1
_WITHOUT_TEXT = (b"%PDF-", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"RIFF")
_OUT_OF_MEMORY = re.compile("bad_alloc|allocat|insufficient memory", re.IGNORECASE)
_UPRIGHT = math.radians(20)


def is_available() -> bool:
    """Whether the extra is installed."""
    return all(find_spec(name) is not None for name in ("rapidocr", "onnxruntime", "PIL"))


def may_read(content: bytes) -> bool:
    """Whether a file, by how it begins, is of a kind that OCR may be asked to read."""
    return is_available() and any(start in content[:1024] for start in _WITHOUT_TEXT)


def read_picture(picture: "Image") -> str:
    """What is written in a picture, in reading order; nothing where nothing is.

    Raises `UnsupportedDocumentError` without the extra.
    """
    if not is_available():
        raise UnsupportedDocumentError(f"reading pictures needs OCR: {EXTRA}")
    # All of this is heavy, and only pictures need it.
    import numpy as np  # noqa: PLC0415

    from rotina.knowledge.loading.pdf_layout import page_text  # noqa: PLC0415

    pixels = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    try:
        found = _engine()(np.ascontiguousarray(pixels))
    except Exception as error:
        if _OUT_OF_MEMORY.search(str(error)):  # in C++, which raises no MemoryError
            raise MemoryError from error
        raise
    if found.boxes is None or found.txts is None:
        return ""
    # What has neither letter nor digit is a line, a frame or a speck.
    lines = zip(found.boxes, found.txts, strict=True)
    return page_text([_segment(box, text) for box, text in lines if any(map(str.isalnum, text))])


def _segment(box: Any, text: str) -> "Segment":
    """A line from the four corners around it, clockwise, y downwards."""
    from rotina.knowledge.loading.pdf_glyphs import Segment  # noqa: PLC0415 - loads PDFium

    xs, ys = [float(x) for x, _ in box], [float(y) for _, y in box]
    angle = math.atan2(ys[1] - ys[0], xs[1] - xs[0])
    height = abs(ys[3] - ys[0] + ys[2] - ys[1]) / 2
    # The middle instead of the baseline: a box reaches lower where a letter does.
    middle = sum(ys) / len(ys)
    return Segment(
        text.strip(), min(xs), max(xs), -middle, max(height, 1.0), upright=abs(angle) < _UPRIGHT
    )


@functools.cache
def _engine() -> Any:
    """Loaded once a process; takes about a second."""
    from rapidocr import RapidOCR  # noqa: PLC0415 - an extra

    folder = resources.files("rapidocr") / "models"
    paths = {f"{part}.model_path": str(folder / name) for part, name in _MODELS.items()}
    threads = {
        "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    small = {"Global.max_side_len": 1600, "Rec.rec_batch_num": 1, "Cls.cls_batch_num": 1}
    return RapidOCR(params={"Global.log_level": "error", **paths, **threads, **small})
