"""Shards, shares of shards, and real processes that work on one run at once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import explanation_alignment as ea
from explanation_alignment.evaluation.units import in_shard
from explanation_alignment.sweeps.planning import shares


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))), st.integers(1, 9))
def test_shares_of_a_shard_have_its_units_each_once(shard: tuple[int, int], parts: int) -> None:
    whole = f"{shard[0]}/{shard[1]}"
    cut = shares(whole, parts)
    assert len(cut) == parts
    for unit in range(60):
        assert sum(in_shard(unit, part) for part in cut) == in_shard(unit, whole)


@given(st.integers(1, 9))
def test_shares_of_everything(parts: int) -> None:
    for unit in range(30):
        assert sum(in_shard(unit, part) for part in shares(None, parts)) == 1


SHARD = """
    import sys
    import explanation_alignment as ea, explanation_alignment.evaluation.units as units
    from toys import Patches, small_classifier
    units.UNIT_SIZE = 4
    out, shard = sys.argv[1:]
    ea.evaluate(small_classifier(), Patches(41, broken=[6]), ["vanilla_gradients", "gradcam(layer=3)"], out=out,
                batch_size=4, progress=False, save_maps="float16", shard=None if shard == "all" else shard)
"""


def start(out: Path, shard: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(SHARD), str(out), shard]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def done(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told


def files(run: Path, kind: str) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob(f"{kind}/*/*.parquet")}


@pytest.mark.slow
def test_shards_at_once_into_one_folder_or_several_make_the_same_run(tmp_path: Path) -> None:
    done(*(start(tmp_path / "one", f"{place}/3") for place in (1, 2, 3)), start(tmp_path / "whole", "all"))
    assert len(files(tmp_path / "whole", "maps")) == 11
    assert len(files(tmp_path / "whole", "scores")) == 1  # compacted
    assert files(tmp_path / "one", "scores") == files(tmp_path / "whole", "scores")
    assert files(tmp_path / "one", "maps") == files(tmp_path / "whole", "maps")
    run = ea.open_run(tmp_path / "one")
    assert not run.unfinished
    assert ea.verify(run).ok, ea.verify(run).findings
    assert run.examples().height == ea.open_run(tmp_path / "whole").examples().height
    done(*(start(tmp_path / f"part-{place}", f"{place}/2") for place in (1, 2)))
    merged = ea.merge([tmp_path / "part-1", tmp_path / "part-2"], tmp_path / "merged")
    assert files(merged.path, "scores") == files(tmp_path / "whole", "scores")
