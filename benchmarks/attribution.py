"""Attributing a metric to every active (position, feature) of a prompt: what it costs in forward passes, against the tutorial idiom.

    python benchmarks/attribution.py [--atlas] [--tokens 32] [--layer 6] [--threads 1] [--rounds 9]

The idiom splices the SAE into the graph, adds its error back, runs backward through the whole model with parameter gradients on, and
multiplies densely. The unit is one forward pass of the plain Hugging Face model, without gradients.
"""

import torch
from setting import Setting, arguments, setting, take_turns

from workbench.circuits.ranking.attribution import attribute


def idiom(s: Setting) -> torch.Tensor:
    """feature_acts · ∂metric/∂feature_acts, through the SAE."""
    kept = []

    def splice(block, args):
        feature_acts = s.sae.encode(args[0])
        feature_acts.retain_grad()
        kept.append(feature_acts)
        error = (args[0] - s.sae.decode(feature_acts)).detach()
        return (s.sae.decode(feature_acts) + error, *args[1:])

    handle = s.hf_block.register_forward_pre_hook(splice)
    s.hf_model.requires_grad_(True)
    try:
        s.metric.resolve(s.model)(s.hf_model(s.tokens).logits[:, -1]).sum().backward()
    finally:
        handle.remove()
        s.hf_model.requires_grad_(False)
        s.hf_model.zero_grad()
    return (kept[0] * kept[0].grad)[0].detach()


def forward(s: Setting) -> torch.Tensor:
    with torch.no_grad():
        return s.hf_model(s.tokens).logits


def main() -> None:
    options = arguments(__doc__ or "", n_rounds=9)
    s = setting(options)
    seconds = take_turns(
        {
            "forward": lambda: forward(s),
            "ours": lambda: attribute(s.model, s.sae, s.tokens, s.metric),
            "idiom": lambda: idiom(s),
        },
        options.rounds,
    )
    found, expected = attribute(s.model, s.sae, s.tokens, s.metric), idiom(s)
    difference = (found.attribution - expected).abs().max().item()
    print(f"{s.name}, {s.tokens.shape[1]} tokens, {s.sae.cfg.hook_name}, {s.sae.cfg.d_sae:,} features, {len(found.pairs):,} pairs")
    print(f"{options.threads} thread(s), one forward pass: {1e3 * seconds['forward']:.0f} ms\n")
    print(f"{'way':<44}{'forward passes':>16}")
    print(f"{'the tutorial idiom':<44}{seconds['idiom'] / seconds['forward']:>16.2f}")
    print(f"{'ours, every pair':<44}{seconds['ours'] / seconds['forward']:>16.2f}   target ≤ 1.2\n")
    print(f"ours is {seconds['idiom'] / seconds['ours']:.1f}× faster; largest difference {difference:.1e} of {expected.abs().max():.1e}")


if __name__ == "__main__":
    main()
