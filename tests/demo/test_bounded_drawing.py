"""Whatever calls itself a drawing, only the page's own kind of PNG is decoded."""

from base64 import b64encode

import numpy as np
import pytest

from demo import bounded, bounded_drawing
from demo.bounded_drawing import ink_of
from tests.attacks.page import not_drawings, png


def url(content):
    return f"data:image/png;base64,{b64encode(content).decode()}"


def test_a_drawing_is_its_opacity():
    assert (ink_of(url(png(ink=255))) == np.full((280, 280), 255)).all()
    assert not ink_of(url(png())).any()


@pytest.mark.parametrize("sent", [None, 3, "", "data:image/png;base64,é", *map(url, not_drawings())])
def test_what_is_none_is_one_line(sent):
    with pytest.raises(bounded.Refused, match=r"^this is no drawing of this page, which is a PNG of 280x280"):
        ink_of(sent)


@pytest.mark.parametrize("content", [png(13_300, 13_300), b"%!PS-Adobe-3.0 EPSF-3.0", png() + bytes(10**6)])
def test_no_decoder_sees_what_is_no_drawing(content, monkeypatch):
    monkeypatch.setattr(bounded_drawing, "read_in_a_process", None)
    with pytest.raises(bounded.Refused):
        ink_of(url(content))
