from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("platform", "expected"), [("linux", sys.platform == "linux"), ("darwin", False)])
def test_setting_is_taken_where_there_is_one_and_harmless_elsewhere(platform: str, expected: bool) -> None:
    """In a process of its own: the setting stays for good."""
    code = (
        "import sys, torch; sys.platform = sys.argv[1]\n"
        "from explanation_alignment.cli.memory import keep_freed_memory\n"
        "taken = keep_freed_memory()\n"
        "assert float(torch.ones(3_000_000).sum()) == 3_000_000\n"
        "print(taken)"
    )
    done = subprocess.run([sys.executable, "-c", code, platform], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ({"True", "False"} if expected else {"False"})
