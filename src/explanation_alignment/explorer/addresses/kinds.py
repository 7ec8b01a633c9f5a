"""How one kind of field is read from an address, strictly, and written to it again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Final

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.explorer.addresses.vocabulary import Vocabulary

__all__ = ["Field", "Given", "Pairs", "attributes", "choice", "choices", "flag", "number", "subset", "text", "whole"]

_MOST_FIELDS: Final = 400
_LONGEST: Final = 1000

Pairs = Sequence[tuple[str, str]]
_Names = Callable[[Vocabulary], Iterable[str]]


class Given:
    """What an address says, and a vocabulary for each run; too much of it, or what nobody asks for, is an error."""

    def __init__(self, pairs: Pairs, known: Mapping[str, Vocabulary]) -> None:
        if len(pairs) > _MOST_FIELDS:
            raise UsageError(f"the address has {len(pairs)} fields; at most {_MOST_FIELDS} are read")
        self.known = known
        self.texts: dict[str, list[str]] = {}
        self._asked: set[str] = set()
        for name, text in pairs:
            if max(len(name), len(text)) > _LONGEST:
                raise UsageError(f"{name[:40]}: a field of the address may have {_LONGEST:,} characters")
            if text:  # a form sends what was left empty, too
                self.texts.setdefault(name, []).append(text)

    def many(self, name: str) -> list[str]:
        """All texts under a name."""
        self._asked.add(name)
        return self.texts.get(name, [])

    def one(self, name: str) -> str | None:
        """The text under a name; UsageError where there are several."""
        texts = self.many(name)
        if len(texts) > 1:
            raise UsageError(f"{name} is given {len(texts)} times; give it once")
        return texts[0] if texts else None

    def done(self) -> None:
        """UnknownNameError where something is left."""
        for name in self.texts:
            if name not in self._asked:
                raise UnknownNameError("field of the address", name, self._asked)


@dataclass(frozen=True, slots=True)
class Kind:
    """How fields are read (None where nothing is given), and how their values are written."""

    read: Callable[[Field, Given, Vocabulary], Any]
    write: Callable[[str, Any], Pairs]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an address.

    Args:
        name: in the address.
        kind: how it is read and written.
        usual: what is meant where nothing is given; it is left out when written.
        always: whether it is written nevertheless.
        beside: the attribute of a state without which the field says nothing, and is left out.
        called: what errors call a text that is not known; by default the name.
    """

    name: str
    kind: Kind
    _: KW_ONLY
    usual: Any = None
    always: bool = False
    beside: str | None = None
    called: str | None = None

    def read(self, given: Given, own: Vocabulary, prefix: str = "") -> Any:
        """The value that is given, or the usual one; UsageError where it means nothing or is not known."""
        there = replace(self, name=prefix + self.name, called=self.called or self.name)
        value = self.kind.read(there, given, own)
        return self.usual if value is None else value

    def pairs(self, value: Any, prefix: str = "", *, always: bool = False) -> Pairs:
        """Names and texts of a value."""
        return self.kind.write(prefix + self.name, value) if always or self.always or value != self.usual else []

    def known(self, text: str, names: Iterable[str]) -> str:
        """The text; UnknownNameError where it is none of these names."""
        if text not in (known := list(names)):
            raise UnknownNameError(self.called or self.name, text, known)
        return text


def _one(read: Callable[[Field, str, Vocabulary], Any], write: Callable[[Any], str] = str) -> Kind:
    """What is given once at most."""

    def found(field: Field, given: Given, own: Vocabulary) -> Any:
        text = given.one(field.name)
        return None if text is None else read(field, text, own)

    return Kind(found, lambda name, value: [(name, write(value))])


def text(meaning: Callable[[str], str] = str) -> Kind:
    """Any text, or what it means."""
    return _one(lambda field, text, own: meaning(text))


def choice(names: _Names, meaning: Callable[[str], Any] = str) -> Kind:
    """One of the names a vocabulary has, or what it means."""
    return _one(lambda field, text, own: meaning(field.known(text, names(own))))


def flag(yes: str, *no: str) -> Kind:
    """Yes or no; without a word for no, nothing stands for it."""
    return _one(lambda field, text, own: field.known(text, (yes, *no)) == yes, lambda value: yes if value else no[0])


def whole(least: int, most: int) -> Kind:
    """A whole number."""

    def read(field: Field, text: str, own: Vocabulary) -> int:
        if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 20):
            raise UsageError(f"{field.name}={text!r}: expected a whole number")
        if not least <= int(text) <= most:
            raise UsageError(f"{field.name}={text}: expected a number from {least:,} to {most:,}")
        return int(text)

    return _one(read)


def number() -> Kind:
    """A finite number."""

    def read(field: Field, text: str, own: Vocabulary) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{field.name}={text!r}: expected a number such as 0.5")
        return value

    return _one(read, "{:.10g}".format)


def choices(names: _Names) -> Kind:
    """Any of the names a vocabulary has, in the order given."""

    def read(field: Field, given: Given, own: Vocabulary) -> tuple[str, ...]:
        return tuple(dict.fromkeys(field.known(text, names(own)) for text in given.many(field.name)))

    return Kind(read, lambda name, value: [(name, text) for text in value])


def subset(words: Sequence[str], none: str) -> Kind:
    """Any of a few words, in their order; ``none`` says that it is none of them, where some are usual."""

    def read(field: Field, given: Given, own: Vocabulary) -> tuple[str, ...] | None:
        texts = [field.known(text, (none, *words)) for text in given.many(field.name)]
        return tuple(word for word in words if word in texts) if texts else None

    return Kind(read, lambda name, value: [(name, word) for word in value or (none,)])


def attributes(names: _Names) -> Kind:
    """Attributes with their values: each has a field of its own, whose name begins with this one's."""

    def read(field: Field, given: Given, own: Vocabulary) -> tuple[tuple[str, str], ...]:
        found = [name for name in given.texts if name.startswith(field.name)]
        pairs = [(field.known(name.removeprefix(field.name), names(own)), str(given.one(name))) for name in found]
        return tuple(sorted(pairs))

    return Kind(read, lambda prefix, value: [(prefix + name, text) for name, text in value])
