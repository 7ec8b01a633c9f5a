"""What the states of pages share: a state's dataclass names its fields, and by these it is read and written.

A state is frozen; :meth:`Part.but` gives the state a link leads to, :meth:`State.query` its part of the address.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from explanation_alignment.explorer.addresses.fields import FIELDS, RUNS
from explanation_alignment.explorer.addresses.kinds import Given, Pairs, choice
from explanation_alignment.explorer.addresses.vocabulary import Vocabulary

__all__ = ["Part", "State", "of"]


def of(name: str, /, **otherwise: Any) -> Any:
    """An attribute of a part that is a field of the table, but for what is said otherwise."""
    one = replace(FIELDS[name], **otherwise)
    return field(default=one.usual, metadata={"field": one})


@dataclass(frozen=True, slots=True)
class Part:
    """Fields of an address that belong together, and parts, whose metadata are arguments of their :meth:`pairs`."""

    def but(self, **changed: Any) -> Self:
        """The same with other values."""
        return replace(self, **changed)

    def pairs(self, prefix: str = "", always: str = "") -> list[tuple[str, str]]:
        """Names, after a prefix, and texts in their order; without what is usual, save for one attribute."""
        pairs: list[tuple[str, str]] = []
        for attribute in fields(self):
            value, one = getattr(self, attribute.name), attribute.metadata.get("field")
            if one is None:
                pairs += value.pairs(**attribute.metadata)
            elif one.beside is None or getattr(self, one.beside) is not None:
                pairs += one.pairs(value, prefix, always=attribute.name == always)
        return pairs

    @classmethod
    def among(cls, given: Given, own: Vocabulary, prefix: str = "", **found: Any) -> Self:
        """The part that is given, beside what of it was found before; UsageError as of :meth:`State.read`."""
        for attribute in fields(cls):
            if attribute.name not in found:
                found[attribute.name] = attribute.metadata["field"].read(given, own, prefix)
        return cls(**found)

    @classmethod
    def of_run(cls, given: Given, prefix: str = "", usual: str = RUNS[0]) -> Self:
        """The part that is given, by the vocabulary of the run that is given, or of the usual one."""
        there = replace(FIELDS["run"], kind=choice(lambda _: given.known), usual=usual)
        run = there.read(given, Vocabulary(), prefix)
        return cls.among(given, given.known[run], prefix, run=run)


@dataclass(frozen=True, slots=True)
class State(Part, ABC):
    """What a page shows, as its address says it."""

    path: ClassVar[str]

    @classmethod
    def read(cls, pairs: Pairs, known: Mapping[str, Vocabulary]) -> Self:
        """The state of an address; ``known`` has a vocabulary for each run.

        Raises:
            UsageError: a field means nothing, or names what the run has not.
        """
        given = Given(pairs, known)
        state = cls._read(given)
        given.done()
        return state

    @classmethod
    @abstractmethod
    def _read(cls, given: Given) -> Self: ...

    def query(self) -> str:
        """Its part of an address, without the question mark."""
        return urlencode(self.pairs())

    def address(self, path: str | None = None) -> str:
        """Path and query."""
        query = self.query()
        return (path or self.path) + (f"?{query}" if query else "")
