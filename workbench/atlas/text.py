"""A text that carries its answer key: which concept each of its words brings into play.

A generator writes a text from pieces, plain strings and (string, concepts) pairs. From the word that completes a name on, its concepts
are in play until the text ends: a causal
model cannot know them earlier, and may still be using them later.
"""

from collections.abc import Iterable
from typing import NamedTuple

Piece = str | tuple[str, Iterable[str]]


class Mention(NamedTuple):
    """Where in a text something is named, and the concepts that it brings into play."""

    start: int  # index of its first character
    end: int  # index of the character after it
    concepts: frozenset[str]


class Text(str):
    """A string of the small world; `.mentions` is its answer key, in reading order."""

    mentions: tuple[Mention, ...]

    @classmethod
    def write(cls, *pieces: Piece) -> "Text":
        """A text of pieces, one after the other: plain strings, or (string, the concepts it brings into play)."""
        strings, mentions, end = [], [], 0
        for piece in pieces:
            string, concepts = (piece, ()) if isinstance(piece, str) else piece
            strings.append(string)
            start, end = end, end + len(string)
            if concepts:
                mentions.append(Mention(start, end, frozenset(concepts)))
        text = cls("".join(strings))
        text.mentions = tuple(mentions)
        return text

    @property
    def concepts(self) -> frozenset[str]:
        """All concepts that are in play when the text ends."""
        return frozenset().union(*(mention.concepts for mention in self.mentions))

    def concepts_at(self, ends: list[int]) -> list[frozenset[str]]:
        """Concepts in play at tokens that end at these character indices (ascending)."""
        return self._reached(ends, [mention.end for mention in self.mentions])

    def concepts_named(self, ends: list[int]) -> list[frozenset[str]]:
        """The same from a mention's first token on, not only when it is complete: what a reader who knows the whole text would call the
        token part of."""
        return self._reached(ends, [mention.start + 1 for mention in self.mentions])

    def _reached(self, ends: list[int], places: list[int]) -> list[frozenset[str]]:
        """At tokens that end at `ends`: the concepts of the mentions whose place is reached."""
        in_play: frozenset[str] = frozenset()
        per_token, waiting = [], list(zip(places, self.mentions, strict=True))
        for end in ends:
            while waiting and waiting[0][0] <= end:
                in_play |= waiting.pop(0)[1].concepts
            per_token.append(in_play)
        return per_token
