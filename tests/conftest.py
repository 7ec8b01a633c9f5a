"""What several test modules need: small IDX files, and the real MNIST where it is at hand."""

from __future__ import annotations

import gzip
import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core, so a thread a process; read when torch is first imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The same examples everywhere, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# Where tests are started in the background Ctrl-C is ignored, by their children, too; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WriteIdx = Callable[..., Path]

_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _write_idx(path: Path, values: np.ndarray) -> Path:
    content = bytes([0, 0, 8, values.ndim])
    content += b"".join(size.to_bytes(4, "big") for size in values.shape)
    content += values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(scope="session")
def write_idx() -> WriteIdx:
    """A function (path, uint8 values) -> path that writes an IDX file, gzipped if the path ends in .gz."""
    return _write_idx


@pytest.fixture
def idx_dir(tmp_path: Path) -> Path:
    """A folder with 40 training and 30 test images of seeded random ink, 28 x 28, labels 0..9 in turn.

    About half of the pixels have no ink; the last image of each split has none at all.
    """
    folder = tmp_path / "idx"
    rng = np.random.default_rng(0)
    for images, labels, count in zip(_STEMS[::2], _STEMS[1::2], (40, 30), strict=True):
        ink = rng.integers(1, 256, (count, 28, 28)) * (rng.random((count, 28, 28)) < 0.5)
        ink[-1] = 0
        _write_idx(folder / images, ink)
        _write_idx(folder / labels, np.arange(count) % 10)
    return folder


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The real MNIST: the folder EALIGN_MNIST_DIR names, else shared/data/mnist beside the repository."""
    named = os.environ.get("EALIGN_MNIST_DIR")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data" / "mnist"
    if not named and not any((folder / name).is_file() for stem in _STEMS for name in (stem, f"{stem}.gz")):
        pytest.skip("real MNIST files not found; set EALIGN_MNIST_DIR")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tables parsed from annotation files are kept beside the tests' other files, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EALIGN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
