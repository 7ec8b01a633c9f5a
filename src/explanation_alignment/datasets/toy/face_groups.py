"""Which drawn face has which hair and smiles: exact shares in every partition, whatever the number of faces."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from explanation_alignment.errors import UsageError

__all__ = ["Group", "check_shares", "draw_groups", "group_shares", "identity_of", "partition_of"]

#: Hair colour (black, blond, brown, grey), and whether it smiles.
Group: TypeAlias = tuple[str, bool]

#: Partition of ten faces in a row: 0 train, 1 valid, 2 test.
_PARTITION: Final = (0, 0, 2, 0, 0, 2, 0, 1, 0, 2)
#: Faces of a partition that are put in random order together; what comes later never changes what came before.
_STRETCH: Final = 100
_ROUNDS: Final = 40


def partition_of(number: int) -> int:
    """0 train, 1 valid, 2 test, of the face with that number, from 1."""
    return _PARTITION[(number - 1) % len(_PARTITION)]


def identity_of(number: int) -> int:
    """Number of the person; two faces show the same one, both in the same partition."""
    block, slot = divmod(number - 1, len(_PARTITION))
    return 1 + slot + len(_PARTITION) * (block // 2)


def check_shares(correlation: float, other_hair: float) -> None:
    """Refuse what cannot be a correlation or a share.

    Raises:
        UsageError: ``correlation`` is not in -1..1, or ``other_hair`` not from 0 to below 1.
    """
    if not -1 <= correlation <= 1:
        raise UsageError(f"correlation of black or blond hair and smile: expected -1 to 1, got {correlation:g}")
    if not 0 <= other_hair < 1:
        raise UsageError(f"share of faces with brown or grey hair: expected 0 to below 1, got {other_hair:g}")


def group_shares(correlation: float = 0.0, other_hair: float = 0.2) -> dict[Group, Fraction]:
    """The share of each group, adding up to 1; groups without any are left out.

    Among black and blond hair, ``correlation`` is the phi coefficient between black hair and smile, both being half of
    them: black and smiling are (1 + correlation) / 4 of them. Other hair and smile are independent.

    Args:
        correlation: -1 to 1, to a millionth.
        other_hair: the share of brown and grey hair together, 0 to below 1, to a millionth.

    Raises:
        UsageError: for other numbers.
    """
    check_shares(correlation, other_hair)
    phi, other = (Fraction(value).limit_denominator(10**6) for value in (correlation, other_hair))
    shares: dict[Group, Fraction] = {}
    for smiling, sign in ((True, 1), (False, -1)):
        shares["black", smiling] = (1 - other) * (1 + sign * phi) / 4
        shares["blond", smiling] = (1 - other) * (1 - sign * phi) / 4
        shares["brown", smiling] = shares["grey", smiling] = other / 4
    return {group: share for group, share in shares.items() if share > 0}


def draw_groups(n: int, seed: int, correlation: float = 0.0, other_hair: float = 0.2) -> list[Group]:
    """Groups of the faces 1 to n.

    The first k faces of a partition hold of every group its share of k, rounded up or down, for every k. So the faces
    of a smaller stand-in are those a larger one begins with.

    Raises:
        UsageError: for shares there cannot be.
    """
    shares = group_shares(correlation, other_hair)
    partitions = [partition_of(number) for number in range(1, n + 1)]
    drawn = {
        partition: iter(_sequence(partitions.count(partition), shares, seed, partition))
        for partition in set(partitions)
    }
    return [next(drawn[partition]) for partition in partitions]


class _Turn(NamedTuple):
    """A group's next face: its place among the faces of the partition is at least ``first`` and less than ``end``."""

    end: int
    first: int
    group: Group


def _sequence(length: int, shares: dict[Group, Fraction], seed: int, partition: int) -> list[Group]:
    """Groups of the faces of one partition.

    The j-th face of a group with share s, from 0, has its place from floor(j / s) to before ceil((j + 1) / s): this is
    the same as the rounding promised. Taking the one that has to come first always succeeds (Baruah et al.,
    Proportionate progress, Algorithmica 1996: one resource); neighbours are then exchanged at random where both may.
    """
    counts = dict.fromkeys(shares, 0)
    waiting = {group: _turn(group, 0, share) for group, share in shares.items()}
    turns: list[_Turn] = []
    for place in range(-(-length // _STRETCH) * _STRETCH):
        turn = min(turn for turn in waiting.values() if turn.first <= place)
        turns.append(turn)
        counts[turn.group] += 1
        waiting[turn.group] = _turn(turn.group, counts[turn.group], shares[turn.group])
    for begin in range(0, len(turns), _STRETCH):
        rng = np.random.default_rng([seed, 1, partition, begin // _STRETCH])
        for number, coins in enumerate((rng.random((_ROUNDS, _STRETCH)) < 0.5).tolist()):
            for place in range(begin + number % 2, begin + _STRETCH - 1, 2):
                here, there = turns[place], turns[place + 1]
                if coins[place - begin] and here.group != there.group and there.first <= place < here.end - 1:
                    turns[place], turns[place + 1] = there, here
    return [turn.group for turn in turns[:length]]


def _turn(group: Group, count: int, share: Fraction) -> _Turn:
    return _Turn(math.ceil((count + 1) / share), math.floor(count / share), group)
