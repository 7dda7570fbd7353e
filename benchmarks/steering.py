"""Does steering a feature make the atlas's model write about the feature's own concept? All concepts, beside steering vectors.

    python benchmarks/steering.py [--concepts 1000] [--samples 4] [--tokens 24] [--sae 2k]

For each concept of the answer key that some feature means best (the one of highest F1), texts are sampled from four short prompts:
unsteered, at sane strengths (0.5 to 3) and at the paper's (5 to 10), and under four vectors at sixteen scales. Two readings of what a text
says of a concept, and the vectors' prompts: concepts.py. What is compared with what: beside.py. Several concepts share a batch: each row
of it has an intervention of its own. Half an hour on one core.
"""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from beside import SCALES, STRENGTHS, Side, compare, report
from concepts import READINGS, VECTORS, Concepts
from tqdm.auto import tqdm

from workbench import atlas
from workbench.atlas.build import N_LABEL_TEXTS
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.bench import Workbench
from workbench.circuits.evidence.reference import max_acts
from workbench.circuits.intervene import editing
from workbench.circuits.steering.generation import Decoding, generate, read
from workbench.circuits.steering.steering import clamping_rows
from workbench.circuits.steering.vectors import SteeringVector
from workbench.model.gemm import machine_rate
from workbench.model.hooks import hooked
from workbench.model.tokens import to_tokens

PROMPTS = ("The", "Fact: The", "In", "She")  # frequent first words that choose no concept
AT_ONCE = 4  # concepts in a batch
N_UNSTEERED = 512  # samples of each prompt


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--concepts", type=int, default=1000, help="at most this many, drawn at random")
    parser.add_argument("--samples", type=int, default=4, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--sae", default=None)
    return parser.parse_args()


@dataclass(frozen=True)
class Texts:
    """New tokens by setting and sample, the samples of all prompts in a row, and each text's perplexity to the unsteered model."""

    ids: list[list[list[int]]]
    perplexity: np.ndarray  # (setting, sample); NaN for an empty text


def write(bench: Workbench, decoding: Decoding, n_settings: int, intervention: AbstractContextManager) -> Texts:
    """n_samples continuations of every prompt for each setting; the intervention knows the batch's rows."""
    starts = [to_tokens(bench.model, prompt).expand(n_settings * decoding.n_samples, -1) for prompt in PROMPTS]
    with intervention, machine_rate():
        written = [generate(bench.model, rows, decoding, decoding.seeds * n_settings) for rows in starts]
    ids: list[list[list[int]]] = [[] for _ in range(n_settings)]
    perplexity = []
    for rows, new in zip(starts, written, strict=True):
        with machine_rate():
            log_probs = read(bench.model, bench.sae, torch.cat([rows, new.tokens], dim=1), rows.shape[1], [0]).log_probs
        mean = log_probs.masked_fill(~new.is_text, 0.0).sum(1) / new.is_text.sum(1)
        perplexity.append(torch.exp(-mean).view(n_settings, -1).numpy())
        for row, (tokens, is_text) in enumerate(zip(new.tokens, new.is_text, strict=True)):
            ids[row // decoding.n_samples].append(tokens[is_text].tolist())
    return Texts(ids, np.concatenate(perplexity, axis=1))


def by_features(bench: Workbench, decoding: Decoding, features: Sequence[int]) -> Texts:
    """Each feature at each strength: settings in this order."""
    most, values = max_acts(bench, features), torch.full((len(features), len(STRENGTHS), len(features)), torch.nan)
    for i, feature in enumerate(features):
        values[i, :, i] = torch.tensor(STRENGTHS) * most[feature]
    rows = values.flatten(0, 1).repeat_interleave(decoding.n_samples, dim=0)
    return write(bench, decoding, len(features) * len(STRENGTHS), editing(bench.model, bench.sae, clamping_rows(features, rows)))


def by_vectors(bench: Workbench, decoding: Decoding, vectors: Sequence[SteeringVector]) -> Texts:
    """Each vector at each scale."""
    added = torch.stack([scale * vector.direction for vector in vectors for scale in SCALES]).repeat_interleave(decoding.n_samples, dim=0)
    adding = hooked(bench.model, bench.sae.cfg.hook_name, lambda x: x + added[:, None])
    return write(bench, decoding, len(vectors) * len(SCALES), adding)


def side(key: Concepts, concept: str, texts: Texts, settings: range, added: np.ndarray) -> Side:
    """What a concept's settings wrote of it."""
    shares = {name: np.array([[key.read(name, concept, ids) for ids in texts.ids[i]] for i in settings]) for name in READINGS}
    return Side(shares, np.nanmedian(texts.perplexity[list(settings)], axis=1), added)


def measure(bench: Workbench, decoding: Decoding, key: Concepts, features: dict[str, int], rng: np.random.Generator) -> list[list[dict]]:
    """Each concept's rows: its feature beside its vectors."""
    most, found = max_acts(bench, list(features.values())), []
    vectors = [key.vectors(bench, concept, rng) for concept in features]
    steered = by_features(bench, decoding, list(features.values()))
    pushed = {name: by_vectors(bench, decoding, [each[name] for each in vectors]) for name in VECTORS}
    for i, (concept, feature) in enumerate(features.items()):
        strengths, scales = (range(i * n, (i + 1) * n) for n in (len(STRENGTHS), len(SCALES)))
        ours = side(key, concept, steered, strengths, np.array(STRENGTHS) * most[feature])  # rows of W_dec have norm 1
        norms = {name: float(vector.direction.norm()) for name, vector in vectors[i].items()}
        theirs = {name: side(key, concept, pushed[name], scales, np.array(SCALES) * norms[name]) for name in VECTORS}
        found.append(compare(ours, theirs))
    return found


def best_features(bench: Workbench) -> dict[str, tuple[float, int]]:
    """concept → (F1, feature): of the features that mean it best, with an F1 of at least 0.5, the one of highest F1."""
    best: dict[str, tuple[float, int]] = {}
    table = AnswerKey.read(bench.model, bench.sae, atlas.texts(seed=1, n=N_LABEL_TEXTS)).table()
    for row in table[table["f1"] >= FOUND].itertuples():
        best[row.concept] = max(best.get(row.concept, (0.0, -1)), (round(row.f1, 2), int(row.feature)))
    return best


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    bench, rng = atlas.load(options.sae), np.random.default_rng(0)
    key, best = Concepts(bench.model.tokenizer.backend_tokenizer, atlas.texts(seed=4, n=options.texts)), best_features(bench)
    print(f"{len(best)} concepts that some feature means best")
    chosen = rng.permutation(sorted(best))[: options.concepts].tolist()
    plain = write(bench, Decoding(options.tokens, 1.0, N_UNSTEERED, seed=1000, progress=False), 1, nullcontext()).ids[0]
    least = 0.5 / sum(map(len, plain))  # never seen: half a time
    decoding, rows = Decoding(options.tokens, temperature=1.0, n_samples=options.samples, progress=False), []
    for start in tqdm(range(0, len(chosen), AT_ONCE), unit="batch", mininterval=10):
        some = {concept: best[concept][1] for concept in chosen[start : start + AT_ONCE]}
        for concept, found in zip(some, measure(bench, decoding, key, some, rng), strict=True):
            unsteered = {name: max(float(np.mean([key.read(name, concept, ids) for ids in plain])), least) for name in READINGS}
            about = {"concept": concept, "feature": some[concept], "f1": best[concept][0]}
            rows += [about | row | {"unsteered": unsteered[row["reading"]]} for row in found]
    report(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
