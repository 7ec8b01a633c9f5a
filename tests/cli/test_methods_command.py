"""``ealign methods``: everything there is, searchable, for people and machines."""

from __future__ import annotations

import json
import subprocess
import sys

from command_line import Ealign
from explanation_alignment.saliency.base import METHODS


def test_lists_every_method_with_its_defaults(ealign: Ealign) -> None:
    done = ealign("methods")
    assert done.code == 0
    for name, entry in METHODS.items():
        assert f"\n{name}\n" in f"\n{done.out}"
        assert entry.source in done.out
    assert "steps = a whole number: points of the Gauss-Legendre rule (default 50)" in done.out
    assert "binarize = std:K" in done.out
    assert max(map(len, done.out.splitlines())) <= 130


def test_searches_names_and_descriptions(ealign: Ealign) -> None:
    names = [line for line in ealign("methods 'gradcam*'").out.splitlines() if line in METHODS]
    assert names == ["gradcam", "gradcam++"]
    names = [line for line in ealign("methods shapley").out.splitlines() if line in METHODS]
    assert names == ["kernel_shap"]
    wrong = ealign("methods lrp")
    assert wrong.code == 2
    assert "unknown saliency method 'lrp'" in wrong.err


def test_for_machines(ealign: Ealign) -> None:
    listed = {item["name"]: item for item in json.loads(ealign("methods --format json").out)}
    assert list(listed) == list(METHODS)
    assert listed["gradcam"]["arguments"]["relu"]["default"] is False
    assert listed["xrai"]["extra"] == "xrai"
    assert [item["name"] for item in json.loads(ealign("methods occlu --format json").out)] == ["occlusion"]


def test_the_list_needs_no_torch() -> None:
    code = "import sys; from explanation_alignment.saliency.base import METHODS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
