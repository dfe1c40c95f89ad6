"""A stranger's drawing: bytes that may be anything, of which only the page's own kind of PNG is decoded."""

import base64
import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from demo.bounded import Refused, read_in_a_process
from harness.errors import UserError

SIDE = 280  # pixels of the page's canvas
_START = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", SIDE, SIDE)
_MOST_BYTES = 4 * SIDE**2 + 2**16  # as RGBA that cannot be compressed

_WORDS = f"this is no drawing of this page, which is a PNG of {SIDE}x{SIDE} pixels: draw it again"


def ink_of(drawn: str) -> UInt8[np.ndarray, "height width"]:
    """The opacity of a PNG in a data URL.

    Raises:
      Refused: it is not what the page's canvas sends, or cannot be decoded.
    """
    try:
        png = base64.b64decode(drawn.partition(",")[2])
    except (AttributeError, ValueError):  # no text, or no base64
        raise Refused(_WORDS) from None
    if not png.startswith(_START) or len(png) > _MOST_BYTES:
        raise Refused(_WORDS)
    return read_in_a_process(_opacity, "drawing.png", png)


def _opacity(file: Path) -> UInt8[np.ndarray, "height width"]:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGBA"))[..., 3]
    except (OSError, SyntaxError, ValueError):  # damaged
        raise UserError(_WORDS) from None
