"""A command line read the way GNU getopt_long reads it, with its words when it cannot.

Options and operands in any order, ``--`` ends the options, long names may be shortened while they stay
unambiguous (within one group of options; an earlier group goes first). A value is the rest of the word
(``-n5``, ``--lines=5``) or the next word; one that may be left out (``--follow``) is taken only after ``=``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its letter, its long names (the first one is canonical) and what it takes.

    `value` is the name of its value in the help, None for an option that takes none; with `optional` the
    value may be left out. `help` and `group` are for people.
    """

    letter: str
    names: tuple[str, ...]
    value: str | None
    group: str
    help: str
    optional: bool = False

    @property
    def name(self) -> str:
        """What the program calls it."""
        return self.names[0] if self.names else self.letter


Given = tuple[str, str | None]


def read(arguments: Sequence[str], options: Sequence[Option]) -> Iterator[Given]:
    """Yield (option's name, value) in the order given; an operand comes as ("", operand).

    Raises UsageError at the first word that does not parse, after what came before it was yielded.
    """
    words = iter(arguments)
    for word in words:
        if word == "--":
            yield from (("", operand) for operand in words)
        elif word.startswith("--"):
            yield _long(word[2:], words, options)
        elif word.startswith("-") and word != "-":
            yield from _cluster(word[1:], words, options)
        else:
            yield "", word


def _long(text: str, words: Iterator[str], options: Sequence[Option]) -> Given:
    """``name``, ``name=value``, or ``name`` with its value in the next word."""
    typed, equals, value = text.partition("=")
    option, name = _resolve(typed, f"--{text}", options)
    if option.value is None:
        if equals:
            raise UsageError(f"option '--{name}' doesn't allow an argument")
        return option.name, None
    if equals:
        return option.name, value
    if option.optional:
        return option.name, None
    return option.name, _next(words, f"option '--{name}' requires an argument")


def _resolve(typed: str, whole: str, options: Sequence[Option]) -> tuple[Option, str]:
    """The option that `typed` names, whole or shortened, and that name in full."""
    matches = [(option, name) for option in options for name in option.names if name.startswith(typed)]
    exact = [match for match in matches if match[1] == typed]
    if exact:
        return exact[0]
    if not matches:
        raise UsageError(f"unrecognized option '{whole}'")
    # What was short enough before there were later groups of options stays so.
    matches = [match for match in matches if match[0].group == matches[0][0].group]
    if any(option is not matches[0][0] for option, _ in matches):
        possible = " ".join(f"'--{name}'" for _, name in matches)
        raise UsageError(f"option '{whole}' is ambiguous; possibilities: {possible}")
    return matches[0]


def _cluster(letters: str, words: Iterator[str], options: Sequence[Option]) -> Iterator[Given]:
    """Letters after one dash; the first that takes a value takes the rest."""
    while letters:
        letter, letters = letters[0], letters[1:]
        option = next((option for option in options if option.letter == letter), None)
        if option is None and letter.isascii() and letter.isdigit():
            raise UsageError(f"option used in invalid context -- {letter}")
        if option is None:
            raise UsageError(f"invalid option -- '{letter}'")
        # A value that may be left out belongs to the long name alone: -f takes none.
        if option.value is None or option.optional:
            yield option.name, None
        else:
            yield option.name, letters or _next(words, f"option requires an argument -- '{letter}'")
            return


def _next(words: Iterator[str], otherwise: str) -> str:
    value = next(words, None)
    if value is None:
        raise UsageError(otherwise)
    return value
