"""Prints every skipped test of a pytest log; fails on a reason that tests/allowed_skips.txt does not list."""

import re
import sys
from pathlib import Path

log, allowed_file = map(Path, sys.argv[1:])
allowed = [line.strip() for line in allowed_file.read_text().splitlines() if line.strip() and not line.startswith("#")]
skipped = re.findall(r"^SKIPPED \[(\d+)\] (\S+?)(?::\d+)?: (.*)$", log.read_text(), flags=re.MULTILINE)
unlisted = []
for count, place, reason in skipped:
    listed = any(entry == f"{place}: {reason}" for entry in allowed)
    print(f"{'allowed ' if listed else 'UNLISTED'} {count} x {place}: {reason}")
    unlisted += [] if listed else [reason]
print(f"{len(skipped)} reasons for skipping, {len(unlisted)} not listed in {allowed_file}")
sys.exit(1 if unlisted else 0)
