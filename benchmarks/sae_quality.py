"""How good the SAEs are that `train` makes on the atlas at the paper's λ = 5: their loss beside plain dense autograd's, and what they mean.

    python benchmarks/sae_quality.py [--width 1024 --width 2048 …] [--steps 2000] [--batch 1024] [--threads 1]

The baseline is a training loop as one writes it: every entry of the feature activations computed, `loss.backward()`, Adam. Both begin with
the same weights and read the same batches of the same texts. loss, fvu, l0 are means over the last tenth of the steps; dead: fired on none
of a tenth of the tokens. Then both are measured on fresh texts, and `train`'s features against the answer key.
"""

import argparse
import math
from collections.abc import Sequence
from itertools import islice

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench import atlas
from workbench.activations.stream import ActivationStream
from workbench.atlas.build import HOOK_NAME, SAE_SEED
from workbench.atlas.corpus import stream
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.sae.config import SAEConfig
from workbench.sae.evaluate import evaluate
from workbench.sae.sae import SAE
from workbench.sae.training.recipe import TrainConfig, initialize
from workbench.sae.training.train import train_many

BAR = 1.005  # our loss over the baseline's, at most
N_BUFFER = 2**17  # tokens shuffled together
N_TEXTS = 8000  # fresh ones that features are held against
KINDS = ("player", "team", "city", "state", "relation", "feeling", "landmark", "language", "code-error")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, action="append", help="features; may be repeated (1,024, 2,048 and 4,096)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def plain_training(batches: Sequence[Tensor], cfg: TrainConfig, scale: float) -> tuple[SAE, float]:
    """(the SAE, its mean loss over the last tenth): dense autograd, line by line the equations of the recipe."""
    sae = SAE(SAEConfig(batches[0].shape[1], cfg.d_sae, HOOK_NAME))
    initialize(sae, cfg.seed)
    W_enc, b_enc, W_dec, b_dec = weights = [
        weight.detach().contiguous().requires_grad_() for weight in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
    ]
    adam, losses = torch.optim.Adam(weights, lr=cfg.lr, fused=True), []
    for step, batch in enumerate(tqdm(batches, f"plain, {cfg.d_sae:,}", unit="step")):
        x = scale * batch
        feature_acts = torch.relu(x @ W_enc + b_enc)
        squared_error = (x - feature_acts @ W_dec - b_dec).square().sum(1).mean()
        loss = squared_error + cfg.l1_at(step) * (feature_acts @ W_dec.norm(dim=1)).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, cfg.clip)
        adam.param_groups[0]["lr"] = cfg.lr_at(step)
        adam.step()
        losses.append(loss.item())
    with torch.no_grad():
        for weight, trained in zip((sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec), weights, strict=True):
            weight.copy_(trained)
    n_last = math.ceil(0.1 * len(losses))
    return sae.fold_scale(scale).fold_decoder_norms().requires_grad_(False), sum(losses[-n_last:]) / n_last


class Kept:
    """A stream's batches, read once and kept: both ways learn from the same ones."""

    def __init__(self, activations: ActivationStream, n_steps: int):
        self.model_name, self.hook_name = activations.model_name, activations.hook_name
        self.d_in, self.scale = activations.d_in, activations.scale
        self.batches = list(islice(activations, n_steps))

    def __iter__(self):
        return iter(self.batches)


def main() -> None:
    options = arguments()
    bench = atlas.load()
    activations = ActivationStream(bench.model, stream(SAE_SEED), HOOK_NAME, batch=options.batch, buffer=N_BUFFER)
    kept = Kept(activations, options.steps)
    configs = [TrainConfig(width, options.steps) for width in options.width or (1024, 2048, 4096)]
    print(f"atlas, {HOOK_NAME}, λ = {configs[0].l1:g}, {options.steps:,} steps of {options.batch:,} tokens\n")
    texts, rows, best = atlas.texts(seed=3, n=N_TEXTS), [], {}
    for cfg, sae in zip(configs, train_many(kept, configs), strict=True):
        plain, plain_loss = plain_training(kept.batches, cfg, kept.scale)
        ratio = sae.cfg.metadata["loss"] / plain_loss
        for way, trained in (("train", sae), ("plain autograd", plain)):
            found = evaluate(bench.model, trained, texts, n_loss_tokens=0, progress=False)
            row = {"features": cfg.d_sae, "way": way, "loss": sae.cfg.metadata["loss"] if trained is sae else plain_loss}
            rows.append(row | {"variance": found.explained_variance, "l0": found.l0, "dead": found.dead})
        key = AnswerKey.read(bench.model, sae, texts).best_features()
        of_kind = key[key["n_texts"] >= 8].groupby("kind")["f1"]
        best[f"{cfg.d_sae:,}"] = of_kind.mean()
        best[f"{cfg.d_sae:,}, found"] = of_kind.agg(lambda f1: (f1 >= FOUND).mean())
        print(
            f"{cfg.d_sae:,} features: loss {ratio:.4f} of plain autograd's (at most {BAR}), dead in training {sae.cfg.metadata['dead']:.2%}"
        )
    print("\n" + pd.DataFrame(rows).round(4).to_string(index=False))
    print(f"\nbest F1 of a concept on fresh texts, mean by kind; found: share with F1 ≥ {FOUND}")
    print(pd.DataFrame(best).loc[list(KINDS)].round(2).to_string())


if __name__ == "__main__":
    main()
