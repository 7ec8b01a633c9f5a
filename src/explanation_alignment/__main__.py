"""``python -m explanation_alignment`` is the command ``ealign``."""

from explanation_alignment.cli import main

main()
