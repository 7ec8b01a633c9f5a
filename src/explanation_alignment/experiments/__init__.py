"""The published experiments: one file each, with its protocol, its figures and the reported numbers.

``training`` holds what they share. The experiment modules import torch only where they train, so that
reports of their runs can be made without it.
"""
