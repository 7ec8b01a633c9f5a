"""The files datasets consist of: found, confined to their folder, parsed once, and turned into masks."""
