"""Pictures through OCR: PNG, JPEG, GIF, BMP, WebP, and TIFF with a page a frame."""

import io
import warnings
from typing import TYPE_CHECKING

from rotina.errors import DocumentTooLargeError, NoTextLayerError, UnsupportedDocumentError
from rotina.knowledge.loading.limits import Limits
from rotina.knowledge.loading.ocr import EXTRA, is_available, read_picture
from rotina.knowledge.loading.text import Parsed, check_length

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_MOST_PIXELS = 50_000_000
"""A page of A3 at 400 dots an inch has 31 million."""


def parse(content: bytes, limits: Limits) -> Parsed:
    """Read every frame of a TIFF, the first one of anything else."""
    if not is_available():
        raise UnsupportedDocumentError(f"a picture is read by OCR, which is an extra: {EXTRA}")
    from PIL import Image  # noqa: PLC0415 - an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow finds odd in a file is not our caller's
        try:
            with Image.open(io.BytesIO(content)) as picture:
                texts = _texts(picture, limits)
        except Image.DecompressionBombError as error:
            raise DocumentTooLargeError(
                f"the picture is a bomb ({error}): make it smaller"
            ) from error
    if not any(map(str.strip, texts)):
        raise NoTextLayerError("nothing can be read in the picture: send it larger, or as text")
    return Parsed(texts, paged=len(texts) > 1, metadata={"read_by": "ocr"})


def _texts(picture: "Picture", limits: Limits) -> list[str]:
    frames = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    texts: list[str] = []
    for index in range(frames):
        if index:
            picture.seek(index)
        _check(picture.size, frames, limits)
        texts.append(read_picture(_upright(picture)))
        check_length(sum(map(len, texts)), limits.max_text_chars)
    return texts


def _upright(frame: "Picture") -> "Picture":
    """As a viewer shows it, and on white where it is transparent."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    picture = ImageOps.exif_transpose(frame)
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _check(size: tuple[int, int], frames: int, limits: Limits) -> None:
    if size[0] * size[1] > _MOST_PIXELS:
        raise DocumentTooLargeError(
            f"the picture has {size[0]} x {size[1]} pixels and {_MOST_PIXELS} are allowed: "
            "make it smaller"
        )
    if frames > limits.max_pages:
        raise DocumentTooLargeError(
            f"the picture has {frames} pages and {limits.max_pages} are allowed: "
            "split it, or raise the setting max_pages"
        )
