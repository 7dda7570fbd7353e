"""Does steering a feature make the atlas's model write about the feature's own concept? Every labelled concept, beside a steering vector.

    python benchmarks/steering.py [--concepts 100] [--samples 8] [--tokens 24] [--sae 2k]

For each concept of the answer key that a feature is labelled with (the one of highest F1), texts are sampled from one short prompt:
unsteered, at sane strengths (0.5 to 3) and at the paper's (5 to 10). The share of the concept is how many of the new tokens complete a
mention of it: n-grams of 1 to 3 tokens at which the concept comes into play and which, in fresh texts, nearly never mean anything else.
The vector is the difference of means between texts that stop at a mention and others; its scale is searched to cost the same perplexity.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from tqdm.auto import tqdm

from workbench import atlas
from workbench.circuits.continuations import Steering
from workbench.circuits.generation import Decoding, generate
from workbench.circuits.steering import steer
from workbench.circuits.vectors import SteeringVector, steering_vector
from workbench.model import to_tokens

PROMPT = "The"
SANE, PAPER = (0.5, 1.0, 2.0, 3.0), (5.0, 7.0, 10.0)
N_GRAM, FEWEST, PURE, NAMES = 3, 5, 0.95, 0.1
N_UNSTEERED = 1024
N_EXAMPLES = 32  # texts a side of the steering vector


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--concepts", type=int, default=1000, help="at most this many, drawn at random")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--sae", default=None)
    return parser.parse_args()


class Mentions:
    """How texts of the world mention each concept: n-grams of tokens, from the answer key."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[atlas.Text]):
        seen, means, entering = Counter(), defaultdict(Counter), defaultdict(Counter)
        self.where = defaultdict(list)  # concept → (text, character at which it comes into play)
        for number, text in enumerate(texts):
            encoding = tokenizer.encode(str(text))
            ends, before = [end for _, end in encoding.offsets], frozenset()
            for i, now in enumerate(text.concepts_at(ends)):
                for gram in grams(encoding.ids, i):
                    seen[gram] += 1
                    means[gram].update(now)
                for concept in now - before:
                    self.where[concept].append((number, ends[i]))
                    entering[concept].update(grams(encoding.ids, i))
                before = now
        pure = {
            concept: {g for g, n in found.items() if seen[g] >= FEWEST and n >= NAMES * seen[g] and means[g][concept] >= PURE * seen[g]}
            for concept, found in entering.items()
        }
        self.of = {concept: found for concept, found in pure.items() if found}

    def share(self, concept: str, ids: Sequence[int]) -> float:
        """The share of the tokens that complete a mention."""
        return float(np.mean([any(gram in self.of[concept] for gram in grams(ids, i)) for i in range(len(ids))])) if len(ids) else 0.0


def grams(ids: Sequence[int], end: int) -> list[tuple[int, ...]]:
    return [tuple(ids[end - n + 1 : end + 1]) for n in range(1, N_GRAM + 1) if end - n + 1 >= 0]


def vector_for(bench, concept: str, mentions: Mentions, texts: Sequence[atlas.Text], rng: np.random.Generator) -> SteeringVector:
    """Positive: texts that stop where the concept comes into play. Negative: others, stopped at a mention of something else."""
    own = {number for number, _ in mentions.where[concept]}
    others = [place for places in mentions.where.values() for place in places[:20] if place[0] not in own]

    def some(places):
        chosen = rng.permutation(len(places))[:N_EXAMPLES]
        return [str(texts[places[i][0]])[: places[i][1]] for i in chosen]

    return steering_vector(bench, some(mentions.where[concept]), some(others))


def measure(steering: Steering, tokenizer: Tokenizer, mentions: Mentions, concept: str) -> dict[str, float]:
    """Means over samples and strengths: share and perplexity by features and by the vector."""
    found = {}
    for kind in ("features", "vector"):
        mine = [each for each in steering.continuations if each.setting.kind == kind]
        found[kind] = float(np.mean([mentions.share(concept, tokenizer.encode(each.text).ids) for each in mine]))
        found[f"{kind} perplexity"] = float(np.nanmedian([each.perplexity for each in mine]))
    return found


def unsteered(bench, decoding: Decoding) -> list[list[int]]:
    """The tokens of many samples: what the concepts' shares are compared with."""
    prompt, written = to_tokens(bench.model, PROMPT), []
    for first in range(0, N_UNSTEERED, 128):
        seeds = list(range(1000 + first, 1000 + first + 128))
        found = generate(bench.model, prompt.expand(128, -1), decoding, seeds)
        written += [row[is_text].tolist() for row, is_text in zip(found.tokens, found.is_text, strict=True)]
    return written


def interval(values: np.ndarray, n: int = 2000) -> str:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (n, len(values))), axis=1)
    return f"{np.median(values):.2f} (95 %: {np.quantile(medians, 0.025):.2f}–{np.quantile(medians, 0.975):.2f})"


def report(table: pd.DataFrame) -> None:
    for name, strengths in (("sane", SANE), ("paper", PAPER)):
        share, vector = table[f"{name} features"].to_numpy(), table[f"{name} vector"].to_numpy()
        ratio = share / table["unsteered"].to_numpy()
        print(f"\nstrengths {strengths}, mean over them, {len(table)} concepts")
        print(f"  share of the concept over unsteered, median: {interval(ratio)}; ≥ 5 for {(ratio >= 5).mean():.0%}")
        print(f"  median share {np.median(share):.4f}, by the vector {np.median(vector):.4f}, unsteered {table['unsteered'].median():.4f}")
        print(f"  beats the vector: {(share > vector).mean():.0%}, tied at {(share == vector).mean():.0%}")
        perplexity = {kind: table[f"{name} {kind} perplexity"].median() for kind in ("features", "vector")}
        print(f"  median perplexity {perplexity['features']:.1f}, by the vector {perplexity['vector']:.1f}")


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    bench, rng = atlas.load(options.sae), np.random.default_rng(0)
    texts = atlas.texts(seed=4, n=options.texts)
    tokenizer = bench.model.tokenizer.backend_tokenizer
    mentions = Mentions(tokenizer, texts)
    best: dict[str, tuple[float, int]] = {}
    for feature, label in bench.labels.items():
        concept, f1 = label.rsplit(" ", 1)
        best[concept] = max(best.get(concept, (0.0, -1)), (float(f1), feature))
    concepts = sorted(concept for concept in best if concept in mentions.of)
    print(f"{len(bench.labels)} labelled features, {len(best)} concepts, {len(concepts)} of them with mentions that can be recognized")
    concepts = sorted(rng.permutation(concepts)[: options.concepts])
    decoding = Decoding(options.tokens, temperature=1.0, n_samples=options.samples)
    plain = unsteered(bench, Decoding(options.tokens, temperature=1.0))
    n_tokens, rows = sum(map(len, plain)), []
    for concept in tqdm(concepts, unit="concept", mininterval=10):
        f1, feature = best[concept]
        share = max(float(np.mean([mentions.share(concept, ids) for ids in plain])), 0.5 / n_tokens)  # never seen: half a time
        row = {"concept": concept, "feature": feature, "f1": f1, "unsteered": share}
        vector = vector_for(bench, concept, mentions, texts, rng)
        for name, strengths in (("sane", SANE), ("paper", PAPER)):
            found = measure(steer(bench, PROMPT, {feature: strengths}, decoding, vector=vector), tokenizer, mentions, concept)
            row |= {f"{name} {column}": value for column, value in found.items()}
        rows.append(row)
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    report(table)


if __name__ == "__main__":
    main()
