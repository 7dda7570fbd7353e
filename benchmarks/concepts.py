"""How texts of the atlas's world speak of a concept, from the answer key, and prompts about it: what benchmarks/steering.py measures with.

    share of the concept      the mean over a text's tokens of P(the concept is in play | token), counted in fresh texts
    share of its mentions     how many of the tokens complete a mention that brings it into play: the narrower reading

The first is what a label's F1 means by a concept, read token by token: "pelican" and "wren" speak of bird-of, all of a French sentence is
French. The second knows the word "bird" only, and the words that open a French text.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from find_atlas import draw
from tokenizers import Tokenizer

from workbench import atlas
from workbench.bench import Workbench
from workbench.circuits.steering.vectors import SteeringVector, steering_vector

N_GRAM, FEWEST, PURE, NAMES = 3, 5, 0.95, 0.1  # a mention: seen 5 times, means the concept in 95 %, brings it into play in 10 %
READINGS = ("share", "mentions")
N_MANY, N_FEW = 32, 8  # prompts a side of a steering vector
VECTORS = {  # prompts a side, and where they end
    "32 whole": "texts with the concept in play and texts without",
    "8 whole": "the negatives of the concept's kind or much like a positive one, as benchmarks/find_atlas.py draws them",
    "32 cut": "texts that stop right where a mention brings the concept into play, and texts that stop at a mention of another",
    "8 cut": "the same, fewer",
}


class Concepts:
    """What each token and each short run of tokens says of every concept, and the texts in which it is in play."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[atlas.Text]):
        self.texts, self.of_text, self.where = texts, defaultdict(list), defaultdict(list)
        n_seen, in_play = np.zeros(tokenizer.get_vocab_size()), defaultdict(Counter)
        seen, means, entering = Counter(), defaultdict(Counter), defaultdict(Counter)
        for number, text in enumerate(texts):
            encoding, before = tokenizer.encode(str(text)), frozenset()
            ends = [end for _, end in encoding.offsets]
            for i, now in enumerate(text.concepts_at(ends)):
                n_seen[encoding.ids[i]] += 1
                for concept in now:
                    in_play[concept][encoding.ids[i]] += 1
                for gram in grams(encoding.ids, i):
                    seen[gram] += 1
                    means[gram].update(now)
                for concept in now - before:
                    self.where[concept].append((number, ends[i]))  # the character at which it comes into play
                    entering[concept].update(grams(encoding.ids, i))
                before = now
            for concept in text.concepts:
                self.of_text[concept].append(number)
        self.n_seen, self.in_play = n_seen, in_play
        self.mentions = {
            concept: {g for g, n in found.items() if seen[g] >= FEWEST and n >= NAMES * seen[g] and means[g][concept] >= PURE * seen[g]}
            for concept, found in entering.items()
        }

    def read(self, reading: str, concept: str, ids: Sequence[int]) -> float:
        """How much of a text is about a concept, by one of READINGS; 0 for an empty text."""
        if not len(ids):
            return 0.0
        tells = self._in_play if reading == "share" else self._completes
        return float(np.mean([tells(concept, ids, i) for i in range(len(ids))]))

    def _in_play(self, concept: str, ids: Sequence[int], i: int) -> float:
        return self.in_play[concept][ids[i]] / (self.n_seen[ids[i]] + 1)  # a rare token tells less

    def _completes(self, concept: str, ids: Sequence[int], i: int) -> bool:
        return any(gram in self.mentions[concept] for gram in grams(ids, i))

    def vectors(self, bench: Workbench, concept: str, rng: np.random.Generator) -> dict[str, SteeringVector]:
        """One for each of VECTORS."""
        own, n = set(self.of_text[concept]), min(N_FEW, len(self.of_text[concept]))  # some are rare
        stops = [place for places in self.where.values() for place in places[:20] if place[0] not in own]
        others = [number for number in range(len(self.texts)) if number not in own]
        whole = [[str(self.texts[i]) for i in some(rng, group)] for group in (self.of_text[concept], others)]
        like = [[str(self.texts[i]) for i in group] for group in draw(concept, list(self.texts), self.of_text, n, rng)]
        cut = [[str(self.texts[i])[:end] for i, end in some(rng, group)] for group in (self.where[concept], stops)]
        sides = dict(zip(VECTORS, (whole, like, cut, [group[:N_FEW] for group in cut]), strict=True))
        return {name: steering_vector(bench, positive, negative) for name, (positive, negative) in sides.items()}


def some(rng: np.random.Generator, group: Sequence) -> list:
    return [group[i] for i in rng.permutation(len(group))[:N_MANY]]


def grams(ids: Sequence[int], end: int) -> list[tuple[int, ...]]:
    return [tuple(ids[end - n + 1 : end + 1]) for n in range(1, N_GRAM + 1) if end - n + 1 >= 0]
