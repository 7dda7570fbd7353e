"""Do our SAEs find features that are known? The synthetic benchmark that SAELens publishes numbers of, by our own generator and trainer.

    python benchmarks/synthetic.py [--reduced 4] [--samples 2e6] [--l0 8]                            on a CPU
    python benchmarks/synthetic.py --reduced 1 --samples 2e8 --l0 25 --device cuda                   the published size: 200 million samples

World and measures: synthetic_world.py. The penalties of L1 and JumpReLU are searched so that about as many latents are active as asked for
(short runs, then the whole one). Two rows check the measures themselves: the truth's own directions, and random ones. Published figures
(SAELens' documentation of SynthSAEBench-16k, 4,096 latents, L0 25) stand beside ours; a reduced world is another one, and with a hundredth
of the samples no row can be compared with them: only --reduced 1 --samples 2e8 can.
"""

import argparse
import math
from dataclasses import replace

import torch
from synthetic_world import Score, World, score
from torch import nn

from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE
from workbench.sae.training.train import TrainConfig, train

PUBLISHED = {  # F1, MCC, uniqueness, variance explained at L0 25; dead latents are not given
    "standard": (0.5562, 0.6039, 0.8976, 0.7654),
    "batchtopk": (0.7316, 0.7574, 0.9837, 0.7923),
    "jumprelu": (0.7317, 0.7527, 0.9885, 0.7951),
    "matryoshka": (0.8793, 0.7927, 0.9987, 0.7792),
    "matching pursuit": (0.4464, 0.6930, 0.8281, 0.8351),
}
N_TRIALS, TRIAL = 6, 0.25  # runs that search a penalty, each of a quarter of the steps


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", type=int, default=4, help="1: the published size")
    parser.add_argument("--samples", type=float, default=2e6)
    parser.add_argument("--l0", type=int, default=8, help="active latents; the reduced world has fewer active features")
    parser.add_argument("--lr", type=float, default=1e-3, help="the published runs: 3e-4 for 200 million samples")
    parser.add_argument("--only", nargs="+", default=["standard", "topk", "batchtopk", "jumprelu", "matryoshka"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def config(name: str, world: World, options: argparse.Namespace) -> TrainConfig:
    cfg = TrainConfig(world.n_latents, n_steps=max(10, int(options.samples / world.batch)), lr=options.lr)
    widths = tuple(width // options.reduced for width in (128, 512, 2048))
    match name:
        case "topk" | "batchtopk":
            return replace(cfg, architecture=name, k=options.l0)
        case "matryoshka":
            return replace(cfg, architecture="batchtopk", k=options.l0, widths=widths)
    return replace(cfg, architecture=name)


def trained(name: str, world: World, options: argparse.Namespace) -> SAE:
    """With the penalty, where there is one, at which about as many latents are active as wanted: in short runs the more the less it is."""
    cfg = config(name, world, options)
    if cfg.k is not None:
        return train(world, cfg, progress=False)
    least, most, penalty = 0.0, math.inf, 1.0
    for _ in range(N_TRIALS):
        found = train(world, replace(cfg, l1=penalty, n_steps=max(10, int(TRIAL * cfg.n_steps))), progress=False)
        least, most = (penalty, most) if score(world, found, 4096).l0 > options.l0 else (least, penalty)
        penalty = 4 * least if most == math.inf else most / 4 if least == 0 else math.sqrt(least * most)
    return train(world, replace(cfg, l1=penalty), progress=False)


def of_rows(world: World, rows: torch.Tensor, l0: int) -> SAE:
    """A TopK dictionary with these directions."""
    sae = SAE(SAEConfig(world.d_in, len(rows), world.hook_name, architecture="topk", k=l0))
    sae.W_dec.data, sae.W_enc.data, sae.b_dec.data = rows.clone(), rows.T.clone(), world.bias.clone()
    sae.b_enc.data = -(world.bias @ sae.W_enc)
    return sae.requires_grad_(False).to(world.device)


def row(name: str, found: Score, published: tuple[float, ...] | None = None) -> str:
    ours = "".join(f"{each:9.3f}" for each in (found.f1, found.mcc, found.unique, found.explained)) + f"{found.l0:8.1f}{found.dead:8.1%}"
    return f"{name:<24}{ours}" + ("   " + "".join(f"{each:9.3f}" for each in published) if published else "")


def main() -> None:
    options = arguments()
    world = World(options.reduced, device=options.device)
    _, c = world.draw(8192)
    overlap = (world.directions @ world.directions.T).fill_diagonal_(0).abs().amax(1).mean()
    print(
        f"{world.n:,} features in {world.d_in} dimensions, {(c > 0).sum(1).float().mean():.1f} active at once "
        f"({(c[:, : world.n_latents] > 0).sum(1).float().mean():.1f} of the {world.n_latents:,} most frequent), "
        f"mean largest |cosine| {overlap:.2f}"
    )
    print(f"{world.n_latents:,} latents, {options.samples:,.0f} samples, L0 {options.l0}")
    print(
        f"{'':<24}{'F1':>9}{'MCC':>9}{'unique':>9}{'var.':>9}{'L0':>8}{'dead':>8}"
        "   published at 16k, L0 25, 200 M samples: F1, MCC, unique, var."
    )
    made = {
        "the truth's directions": world.directions[: world.n_latents],
        "random directions": torch.randn(world.n_latents, world.d_in).to(world.device),
    }
    for name, rows in made.items():
        print(row(name, score(world, of_rows(world, nn.functional.normalize(rows, dim=1), options.l0))))
    for name in options.only:
        print(row(name, score(world, trained(name, world, options)), PUBLISHED.get(name)), flush=True)
    others = "; ".join(
        f"{name} {figures[0]}, {figures[1]}, {figures[2]}, {figures[3]}" for name, figures in PUBLISHED.items() if name not in options.only
    )
    print(f"published, not run here: {others}")


if __name__ == "__main__":
    main()
