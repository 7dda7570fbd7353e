"""Does steering a feature make the atlas's model write about the feature's own concept? Every labelled concept, beside a steering vector.

    python benchmarks/steering.py [--concepts 100] [--samples 8] [--tokens 24] [--sae 2k]

For each concept of the answer key that a feature is labelled with (the one of highest F1), texts are sampled from one short prompt:
unsteered, at sane strengths (0.5 to 3) and at the paper's (5 to 10). The share of the concept is how many of the new tokens complete a
mention of it: n-grams of 1 to 3 tokens at which the concept comes into play and which, in fresh texts, nearly never mean anything else.
The vector is the difference of means between texts that stop at a mention and others; beside each strength it stands at the largest of
sixteen scales that costs no more perplexity, and, to be generous, at the one of these scales that is best in hindsight.
Several concepts share a batch: each row of it has an intervention of its own.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from tqdm.auto import tqdm

from workbench import atlas
from workbench.atlas.truth import kind_of
from workbench.bench import Workbench
from workbench.circuits.generation import Decoding, generate, read
from workbench.circuits.intervene import editing
from workbench.circuits.reference import max_acts
from workbench.circuits.steering import clamping_rows
from workbench.circuits.vectors import SteeringVector, steering_vector
from workbench.model import hooked, to_tokens

PROMPT = "The"
SANE, PAPER = (0.5, 1.0, 2.0, 3.0), (5.0, 7.0, 10.0)
STRENGTHS = (*SANE, *PAPER)
SCALES = [2.0 ** (k / 2) for k in range(-4, 12)]  # of the vector: 0.25 to 45; 1 is the distance between the two means
AT_ONCE = 4  # concepts in a batch
N_KINDS = 8  # of concepts that are shown by themselves
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


def vector_for(bench: Workbench, concept: str, mentions: Mentions, texts: Sequence[atlas.Text], rng: np.random.Generator) -> SteeringVector:
    """Positive: texts that stop where the concept comes into play. Negative: others, stopped at a mention of something else."""
    own = {number for number, _ in mentions.where[concept]}
    others = [place for places in mentions.where.values() for place in places[:20] if place[0] not in own]

    def some(places):
        chosen = rng.permutation(len(places))[:N_EXAMPLES]
        return [str(texts[places[i][0]])[: places[i][1]] for i in chosen]

    return steering_vector(bench, some(mentions.where[concept]), some(others))


@dataclass(frozen=True)
class Written:
    """What a batch of settings wrote: for each setting its samples' new tokens, and their median perplexity to the unsteered model."""

    samples: list[list[list[int]]]
    perplexity: list[float]

    def share(self, mentions: Mentions, concept: str, setting: int) -> float:
        """The mean over the samples."""
        return float(np.mean([mentions.share(concept, ids) for ids in self.samples[setting]]))


def write(bench: Workbench, decoding: Decoding, n_settings: int, intervention: AbstractContextManager) -> Written:
    """n_samples continuations of PROMPT for each setting; the intervention knows the batch's rows."""
    rows = to_tokens(bench.model, PROMPT).expand(n_settings * decoding.n_samples, -1)
    with intervention:
        new = generate(bench.model, rows, decoding, decoding.seeds * n_settings)
    log_probs = read(bench.model, bench.sae, torch.cat([rows, new.tokens], dim=1), rows.shape[1], [0]).log_probs
    perplexity = torch.exp(-log_probs.masked_fill(~new.is_text, 0.0).sum(1) / new.is_text.sum(1))  # NaN for an empty text
    ids = [row[is_text].tolist() for row, is_text in zip(new.tokens, new.is_text, strict=True)]
    n = decoding.n_samples
    return Written([ids[i * n : i * n + n] for i in range(n_settings)], perplexity.view(n_settings, n).nanmedian(1).values.tolist())


def by_features(bench: Workbench, decoding: Decoding, features: Sequence[int]) -> Written:
    """Each feature at each strength: settings in this order."""
    most, values = max_acts(bench, features), torch.full((len(features), len(STRENGTHS), len(features)), torch.nan)
    for i, feature in enumerate(features):
        values[i, :, i] = torch.tensor(STRENGTHS) * most[feature]
    rows = values.flatten(0, 1).repeat_interleave(decoding.n_samples, dim=0)
    return write(bench, decoding, len(features) * len(STRENGTHS), editing(bench.model, bench.sae, clamping_rows(features, rows)))


def by_vectors(bench: Workbench, decoding: Decoding, vectors: Sequence[SteeringVector]) -> Written:
    """Each vector at each scale."""
    added = torch.stack([scale * vector.direction for vector in vectors for scale in SCALES]).repeat_interleave(decoding.n_samples, dim=0)
    adding = hooked(bench.model, bench.sae.cfg.hook_name, lambda x: x + added[:, None])
    return write(bench, decoding, len(vectors) * len(SCALES), adding)


def compare(mentions: Mentions, concept: str, steered: Written, pushed: Written, place: int) -> list[dict[str, float]]:
    """One concept's rows, one a strength, beside the vector at no more perplexity."""
    rows, scales = [], range(place * len(SCALES), (place + 1) * len(SCALES))
    for setting, strength in enumerate(STRENGTHS, start=place * len(STRENGTHS)):
        sane = [i for i in scales if pushed.perplexity[i] <= steered.perplexity[setting]] or [scales[0]]
        row = {"strength": strength, "share": steered.share(mentions, concept, setting), "perplexity": steered.perplexity[setting]}
        row |= {"vector": pushed.share(mentions, concept, sane[-1]), "vector perplexity": pushed.perplexity[sane[-1]]}
        rows.append(row | {"best vector": max(pushed.share(mentions, concept, i) for i in sane)})
    return rows


def unsteered(bench: Workbench, decoding: Decoding) -> list[list[int]]:
    """The tokens of many samples: what the concepts' shares are compared with."""
    return [
        ids
        for seed in range(1000, 1000 + N_UNSTEERED, 128)
        for ids in write(bench, replace(decoding, n_samples=128, seed=seed), 1, nullcontext()).samples[0]
    ]


def interval(values: np.ndarray, n: int = 2000) -> str:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (n, len(values))), axis=1)
    return f"{np.median(values):.2f} (95 %: {np.quantile(medians, 0.025):.2f}–{np.quantile(medians, 0.975):.2f})"


def report(table: pd.DataFrame) -> None:
    """A concept's shares are means over strengths, its perplexities medians."""
    for strengths in (SANE, PAPER):
        groups = table[table["strength"].isin(strengths)].groupby("concept")
        share, plain = groups["share"].mean(), groups["unsteered"].first()
        ratio = share / plain
        print(f"\nstrengths {strengths}, {len(share)} concepts")
        print(f"  share of the concept over unsteered, median: {interval(ratio.to_numpy())}; ≥ 5 for {(ratio >= 5).mean():.0%}")
        print(f"  median share {interval(100 * share.to_numpy())} %, unsteered {100 * plain.median():.3f} %")
        for vector in ("vector", "best vector"):
            other = groups[vector].mean()
            beats, ties = (share > other).mean(), (share == other).mean()
            print(f"  beats the {vector} for {beats:.0%}, tied for {ties:.0%}; the vector's share {interval(100 * other.to_numpy())} %")
        found = pd.DataFrame({"n": 1, "unsteered": plain, "share": share, "vector": groups["vector"].mean(), "ratio": ratio})
        kinds = found.groupby([kind_of(concept) for concept in found.index])
        print(kinds.median().assign(n=kinds.size()).sort_values("n", ascending=False).head(N_KINDS).round(4).to_string())
    medians = table.groupby("strength")[["share", "vector", "best vector", "perplexity", "vector perplexity"]].median()
    print("\nmedians over concepts, by strength; the vector costs no more perplexity than the feature at that strength")
    print(medians.round(4).to_string())


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    bench, rng = atlas.load(options.sae), np.random.default_rng(0)
    texts = atlas.texts(seed=4, n=options.texts)
    mentions = Mentions(bench.model.tokenizer.backend_tokenizer, texts)
    best: dict[str, tuple[float, int]] = {}
    for feature, label in bench.labels.items():
        concept, f1 = label.rsplit(" ", 1)
        best[concept] = max(best.get(concept, (0.0, -1)), (float(f1), feature))
    concepts = sorted(concept for concept in best if concept in mentions.of)
    print(f"{len(bench.labels)} labelled features, {len(best)} concepts, {len(concepts)} of them with mentions that can be recognized")
    concepts = sorted(rng.permutation(concepts)[: options.concepts].tolist())
    decoding = Decoding(options.tokens, temperature=1.0, n_samples=options.samples, progress=False)
    plain = unsteered(bench, decoding)
    least, rows = 0.5 / sum(map(len, plain)), []  # never seen: half a time
    for start in tqdm(range(0, len(concepts), AT_ONCE), unit="batch", mininterval=10):
        some = concepts[start : start + AT_ONCE]
        steered = by_features(bench, decoding, [best[concept][1] for concept in some])
        pushed = by_vectors(bench, decoding, [vector_for(bench, concept, mentions, texts, rng) for concept in some])
        for place, concept in enumerate(some):
            share = max(float(np.mean([mentions.share(concept, ids) for ids in plain])), least)
            about = {"concept": concept, "feature": best[concept][1], "f1": best[concept][0], "unsteered": share}
            rows += [about | row for row in compare(mentions, concept, steered, pushed, place)]
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    report(table)


if __name__ == "__main__":
    main()
