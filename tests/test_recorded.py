"""tests/recorded has what PyTorch computes, and no more."""

import numpy as np
import pytest

from tests import recorded

FILES = {file.stem: file for file in recorded.FOLDER.glob("*.npz")}


def test_it_is_small():
    sizes = [file.stat().st_size for file in recorded.FOLDER.iterdir() if file.suffix in (".npz", ".json")]
    assert 0 < sum(sizes) < 3_000_000


@pytest.mark.torch
def test_each_kind_has_its_file():
    from tests.recorded import pytorch

    assert FILES.keys() == pytorch.CASES.keys()


@pytest.mark.torch
@pytest.mark.parametrize("kind", sorted(FILES))
def test_pytorch_computes_what_is_recorded(kind):
    """To four digits: float32 is rounded otherwise by another version or processor."""
    from tests.recorded import pytorch

    computed = pytorch.compute_all(kind)
    with np.load(FILES[kind]) as kept:
        assert computed.keys() == {*kept}
        for name, values in computed.items():
            largest = np.abs(values).max(initial=0)
            np.testing.assert_allclose(kept[name], values, rtol=1e-4, atol=1e-5 * largest, err_msg=name)
