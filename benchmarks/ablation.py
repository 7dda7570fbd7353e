"""Ablating every active (position, feature) of a prompt: workbench.ablate against today's tutorials, which run one hooked forward pass
each.

    python benchmarks/ablation.py [--atlas] [--tokens 32] [--layer 6] [--threads 1] [--rounds 3]

The naive ways are timed on a sample of pairs, their clean pass counted as one more; what they subtract is computed beforehand. The share
of the physical limit is the time that the operations the effects need would take at the machine's measured matrix rate, over the time
taken: positions ≥ the ablated one through the blocks after the hook; in the last block keys and values for those and the rest for the
last position; two logits.
"""

from dataclasses import dataclass
from functools import partial

import torch
from setting import Setting, arguments, product_of, setting, take_turns

from workbench.circuits.ranking.ablation import Ablations, ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.replay.replay import Replay

N_HF, N_HOOKED = 6, 4  # pairs in a sample of the naive ways, per round


@dataclass(frozen=True)
class Sample:
    pairs: torch.Tensor  # (n, 2) pos, feature
    contributions: torch.Tensor  # (n, d_in) what each pair adds to the residual stream


@torch.no_grad()
def naive_hf(s: Setting, sample: Sample) -> torch.Tensor:
    """A forward hook on a plain Hugging Face model, one full forward pass per pair."""
    resolved, effects = s.metric.resolve(s.model), []
    clean = resolved(s.hf_model(s.tokens).logits[:, -1])
    for pos, contribution in zip(sample.pairs[:, 0].tolist(), sample.contributions, strict=True):

        def remove(block, args, pos=pos, contribution=contribution):
            x = args[0].clone()
            x[:, pos] -= contribution
            return (x, *args[1:])

        handle = s.hf_block.register_forward_pre_hook(remove)
        effects.append(clean - resolved(s.hf_model(s.tokens).logits[:, -1]))
        handle.remove()
    return torch.cat(effects)


@torch.no_grad()
def naive_hooked(s: Setting, sample: Sample) -> torch.Tensor:
    """TransformerLens's run_with_hooks, one per pair."""
    resolved, effects = s.metric.resolve(s.model), []
    clean = resolved(s.model(s.tokens)[:, -1])
    for pos, contribution in zip(sample.pairs[:, 0].tolist(), sample.contributions, strict=True):

        def remove(x, hook, pos=pos, contribution=contribution):
            x[:, pos] -= contribution
            return x

        effects.append(clean - resolved(s.model.run_with_hooks(s.tokens, fwd_hooks=[(s.sae.cfg.hook_name, remove)])[:, -1]))
    return torch.cat(effects)


def needed_operations(s: Setting, pos: torch.Tensor) -> float:
    """Floating-point operations without which the effects at these positions cannot be had."""
    cfg, n_pos = s.model.cfg, s.tokens.shape[1]
    kv_width = 2 * (cfg.n_key_value_heads or cfg.n_heads) * cfg.d_head
    block = sum(weight.numel() for weight in s.hf_block.parameters() if weight.ndim == 2)
    suffix = (n_pos - pos).double()
    attention = 2 * cfg.n_heads * cfg.d_head * (n_pos + pos).double()  # scores and mixing, per query, over half the causal square
    whole = (cfg.n_layers - 1 - s.first_block) * suffix * (2 * block + attention)
    last = suffix * 2 * cfg.d_model * kv_width + 2 * (block - cfg.d_model * kv_width) + 4 * cfg.n_heads * cfg.d_head * n_pos
    return float((whole + last + 4 * cfg.d_model).sum())


def main() -> None:
    options = arguments(__doc__ or "", n_rounds=3)
    s = setting(options)
    features = attribute(s.model, s.sae, s.tokens, s.metric)
    pairs = features.pairs
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))

    def sample(n: int) -> Sample:
        pos, feature = pairs[order[:n]].T
        return Sample(pairs[order[:n]], features.feature_acts[pos, feature, None] * s.sae.W_dec[feature])

    product, operations = product_of(s.model.cfg.d_model)
    measure = partial(ablate, s.model, s.sae, s.tokens, s.metric, progress=False)
    seconds = take_turns(
        {
            "ours": measure,
            "delta": partial(measure, precision="delta"),
            "hf": lambda: naive_hf(s, sample(N_HF)),
            "hooked": lambda: naive_hooked(s, sample(N_HOOKED)),
            "product": lambda: [product() for _ in range(20)],
        },
        options.rounds,
    )
    delta = Ablations(s.model, s.sae, s.tokens, s.metric, "delta")
    delta.of(progress=False)
    ours, hf, hooked = seconds["ours"] / len(pairs), seconds["hf"] / (N_HF + 1), seconds["hooked"] / (N_HOOKED + 1)
    rate = 20 * operations / seconds["product"]
    exact = naive_hf(s, sample(20))
    difference = (measure(pairs=sample(20).pairs) - exact).abs().max().item()

    replay = Replay(s.model, s.sae.cfg.hook_name, s.tokens)
    n_pos = s.tokens.shape[1]
    print(f"{s.name}, {n_pos} tokens, {s.sae.cfg.hook_name}, {s.sae.cfg.d_sae:,} features, L0 {len(pairs) / n_pos:.0f}")
    print(f"{len(pairs):,} pairs, {options.threads} thread(s), replay's way: {replay.way} {replay.why_not}\n")
    print(f"{'way':<52}{'ms per pair':>12}{'ours is':>10}")
    print(f"{f'Hugging Face forward hook ({N_HF} pairs a round)':<52}{1e3 * hf:>12.2f}{hf / ours:>9.1f}×   target ≥ 8×")
    print(f"{f'TransformerLens run_with_hooks ({N_HOOKED} pairs a round)':<52}{1e3 * hooked:>12.2f}{hooked / ours:>9.1f}×   target ≥ 10×")
    print(f"{'ours, every pair, the clean run included':<52}{1e3 * ours:>12.2f}")
    by_delta, name = seconds["delta"] / len(pairs), "ours in the delta form, its error measured"
    print(f"{name:<52}{1e3 * by_delta:>12.2f}{by_delta / ours:>9.2f} of it   target ≤ 0.6 with bf16 products")
    print(f"  {delta.note}\n")
    share = needed_operations(s, pairs[:, 0]) / rate / seconds["ours"]
    print(f"share of the physical limit: {share:.2f} (products run at {rate / 1e9:.0f} GFLOP/s)")
    print(f"largest difference to the naive loop over 20 pairs: {difference:.1e} logits, target ≤ 1e-5")
    print(f"(their largest effect: {exact.abs().max():.1e})")


if __name__ == "__main__":
    main()
