"""One SAE training step: workbench's sparse step against a plain torch one and the same under autocast, each with clipping and fused Adam.

    python benchmarks/sae_step.py [--shape 768x16384 --shape 160x2048 …] [--architecture standard] [--threads 1] [--rounds 5] [--predict]

--predict: a transcoder's step, which has another target than what it reads. Autocast is left out where the CPU only emulates bf16.

Activations are sums of 64 of the SAE's directions, its biases (of TopK, k) let 64 features fire for a token on average. "Dense-equivalent"
counts the 12 · batch · d_in · d_sae operations of a dense step, whoever leaves them out; the roofs are products of the encoder's shape,
measured in the same rounds. A part's limit is the longer of its operations at the roof's rate and its reading and writing of whole weight
matrices at the rate of a scaling in place; what it gathers from the batch is not in it.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from setting import take_turns
from torch import Tensor, nn

from workbench.model.gemm import machine_rate, product_dtype
from workbench.sae.config import SAEConfig, TranscoderConfig
from workbench.sae.dictionary import Dictionary
from workbench.sae.kernels.fast import fast
from workbench.sae.kernels.objective import plain_step
from workbench.sae.kernels.proposal import propose
from workbench.sae.kernels.step import sparse_step
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

SHAPES = ["768x16384", "768x65536", "160x2048", "160x16384"]
BATCH, N_ACTIVE, L1 = 1024, 64, 5.0
BARS = {("standard", 16_384): 1.3, ("standard", 65_536): 1.4}  # dense-equivalent rate over the bf16 roof, d_in 768
ROOF_FEATURES = 4096  # of the product that measures the roof: its result stays in the caches


def planted(
    d_in: int, d_sae: int, architecture: str, *, batch: int = BATCH, n_active: int = N_ACTIVE, device: str = "cpu"
) -> tuple[SAE, Tensor]:
    """(an SAE in which n_active features fire for a token, activations)."""
    torch.manual_seed(0)
    sae = SAE(SAEConfig(d_in, d_sae, "h", architecture=architecture, k=n_active if architecture == "topk" else None)).to(device)
    with torch.no_grad():
        sae.W_dec.copy_(F.normalize(torch.randn(d_sae, d_in, device=device), dim=1))
        sae.W_enc.copy_(sae.W_dec.T)
        active = torch.randint(d_sae, (batch, n_active), device=device)
        amounts = 1 + 4 * torch.rand(batch, n_active, device=device)
        x = torch.cat([torch.einsum("bk,bkd->bd", a, sae.W_dec[i]) for a, i in zip(amounts.split(1024), active.split(1024), strict=True)])
        x *= (d_in / x.square().sum(1).mean()).sqrt()
        if architecture == "standard":
            sae.b_enc -= (x[:256] @ sae.W_enc).flatten().topk(256 * n_active + 1).values[-1]
    return sae, x


def predicting(sae: SAE) -> Transcoder:
    """A transcoder of the SAE's weights."""
    cfg = sae.cfg
    places = ("blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out")
    made = Transcoder(TranscoderConfig(cfg.d_in, cfg.d_in, cfg.d_sae, *places, architecture=cfg.architecture, k=cfg.k))
    made.load_state_dict(sae.state_dict())
    return made


class Training:
    """A step with what follows it: clipping and fused Adam. Its learning rate is 0: the same work, and 64 features go on firing."""

    def __init__(self, sae: Dictionary, weights: list[Tensor]):
        self.sae, self.weights = sae, weights
        self.optimizer = torch.optim.Adam(weights, lr=0.0, fused=True)

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()


class Sparse(Training):
    def __init__(self, sae: Dictionary, x: Tensor, y: Tensor | None = None):
        super().__init__(
            sae, [sae.b_enc, sae.W_dec, sae.b_dec, nn.Parameter(sae.W_enc.data.T)]
        )  # rows: Adam is slow over a transposed view
        self.x, self.y = x, y

    def gradients(self) -> None:
        sparse_step(self.sae, self.x, L1, self.y)
        assert self.sae.W_enc.grad is not None
        self.weights[-1].grad = self.sae.W_enc.grad.T

    def step(self) -> None:
        self.gradients()
        self.update()


class Dense(Training):
    """As one writes it in plain torch, each weight contiguous in its own shape."""

    def __init__(self, sae: Dictionary, x: Tensor, y: Tensor | None = None):
        sae = copy.deepcopy(sae)
        sae.W_enc.data = sae.W_enc.data.contiguous()
        super().__init__(sae, list(sae.parameters()))
        self.x, self.y = x, y

    def step(self) -> None:
        plain_step(self.sae, self.x, L1, self.y)
        self.update()

    def autocast_step(self) -> None:
        with torch.autocast(self.x.device.type, torch.bfloat16):
            plain_step(self.sae, self.x, L1, self.y)
        self.update()


@dataclass(frozen=True)
class Part:
    name: str
    run: Callable[[], object]
    operations: float  # of its products
    n_bytes: float  # of weight matrices that it reads and writes


def parts_of(sparse: Sparse) -> list[Part]:
    """The parts of a sparse step, each on the operands that it meets there."""
    sae, x, products = sparse.sae, sparse.x, fast(sparse.x.device.type)
    W_enc, W_dec, zeros, batch = sae.W_enc.data.T, sae.W_dec.data, torch.zeros_like(sae.b_enc), len(x)
    proposed = propose(sae, x)
    is_on = sae.encode(x).detach()[proposed.rows, proposed.features] > 0
    active = proposed.at(is_on)
    values, grads = torch.randn_like(active.rows, dtype=torch.float32), [torch.empty_like(W_dec), torch.empty_like(W_dec)]
    matrix, dot = 4 * W_dec.numel(), 2 * x.shape[1]

    def gradients() -> None:
        products.dots(active, x, W_dec)
        products.transposed_times(active, values, x, zeros, W_enc, grads[0])
        products.transposed_times(active, values, x, zeros + 1, W_dec, grads[1])

    few, many = len(active.rows), len(proposed.rows)
    return [
        Part("propose: bf16 product", lambda: propose(sae, x), dot * batch * sae.cfg.d_sae, matrix),
        Part(f"re-score {many / batch:.0f} entries a token", lambda: products.dots(proposed, x, W_enc), dot * many, matrix),
        Part("decode", lambda: products.add_times(active, values, W_dec, x.clone()), dot * few, matrix),
        Part("gradients", gradients, 3 * dot * few, 4 * matrix),
        Part("clip and Adam", sparse.update, 0, 20 * matrix),  # read 1, read and write 1; read 4, write 3; for each of two matrices
    ]


def measure(shape: str, architecture: str, n_rounds: int, is_predicting: bool) -> None:
    d_in, d_sae = map(int, shape.split("x"))
    sae, x = planted(d_in, d_sae, architecture)
    sae, y = (predicting(sae), x.roll(1, 1).roll(1, 0)) if is_predicting else (sae, None)
    dense, sparse = Dense(sae, x, y), Sparse(sae, x, y)
    sparse.gradients()
    parts = parts_of(sparse)
    roofs, n_products = products_of(d_in, min(d_sae, ROOF_FEATURES)), max(1, d_sae // ROOF_FEATURES)
    memory = torch.ones(2**26)  # 256 MB
    ways = {
        "plain": dense.step,
        **({"autocast": dense.autocast_step} if product_dtype("cpu") is torch.bfloat16 else {}),
        "sparse": sparse.step,
        **{part.name: part.run for part in parts},
        **{name: lambda product=product: [product() for _ in range(n_products)] for name, product in roofs.items()},
        "memory": lambda: memory.mul_(1.0),
    }
    seconds = take_turns(ways, n_rounds)
    operations = 2.0 * BATCH * d_in * min(d_sae, ROOF_FEATURES) * n_products
    bf16, fp32 = operations / seconds["bf16"], operations / seconds["fp32"]
    bandwidth = 2 * 4 * 2**26 / seconds["memory"]

    n_active = (sae.encode(x) > 0).sum().item()
    print(
        f"\n{architecture}{' transcoder' if is_predicting else ''}, {d_in} → {d_sae:,} features, batch {BATCH:,}, l0 {n_active / BATCH:.0f}"
    )
    print(f"products at {bf16 / 1e9:.0f} GFLOP/s in bf16, {fp32 / 1e9:.0f} in fp32; memory at {bandwidth / 1e9:.0f} GB/s\n")
    print(f"{'way':<30}{'ms':>9}{'tokens/s':>10}{'× bf16 roof':>13}{'× fp32 roof':>13}{'ours is':>10}")
    bar = BARS.get((architecture, d_sae)) if d_in == 768 else None
    for name in [name for name in ("plain", "autocast", "sparse") if name in seconds]:
        rate = 12 * BATCH * d_in * d_sae / seconds[name]
        times, bars = (
            seconds[name] / seconds["sparse"],
            {"plain": "   target ≥ 4×", "sparse": f"   target ≥ {bar}× bf16 roof" if bar else ""},
        )
        title = {"plain": "plain torch, fp32", "autocast": "plain torch, autocast bf16", "sparse": "ours, exact fp32"}[name]
        print(f"{title:<30}{1e3 * seconds[name]:>9.1f}{BATCH / seconds[name]:>10,.0f}{rate / bf16:>13.2f}{rate / fp32:>13.2f}", end="")
        print(f"{times:>9.1f}×{bars.get(name, '')}")
    print(f"\n{'part of ours':<30}{'ms':>9}{'limit':>9}")
    for part in parts:
        limit = max(part.operations / (bf16 if part.name.startswith("propose") else fp32), part.n_bytes / bandwidth)
        print(f"{part.name:<30}{1e3 * seconds[part.name]:>9.1f}{1e3 * limit:>9.1f}")
    print(f"{'selection, sums, small tensors':<30}{1e3 * (seconds['sparse'] - sum(seconds[part.name] for part in parts)):>9.1f}")


def products_of(d_in: int, n_features: int) -> dict[str, Callable[[], Tensor]]:
    """The encoder's product in both dtypes, as fast as the machine does it."""
    x, weights = torch.randn(BATCH, d_in), torch.randn(n_features, d_in)
    x_bf16, weights_bf16, out = x.bfloat16(), weights.bfloat16(), torch.empty(n_features, BATCH, dtype=torch.bfloat16)

    def fp32() -> Tensor:
        with machine_rate():
            return F.linear(weights, x)

    return {"bf16": lambda: torch.mm(weights_bf16, x_bf16.T, out=out), "fp32": fp32}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", action="append", help=f"d_in x d_sae; default: {' '.join(SHAPES)}")
    parser.add_argument("--architecture", action="append", choices=["standard", "topk"], help="default: both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--predict", action="store_true", help="a transcoder's step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for shape in options.shape or SHAPES:
        for architecture in options.architecture or ["standard", "topk"]:
            measure(shape, architecture, options.rounds, options.predict)


if __name__ == "__main__":
    main()
