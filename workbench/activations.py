"""Text → tokens → the model's activations at one hook point → shuffled batches, ready to train an SAE on.

Start tokens are left out: the model parks large, meaningless activations there. A buffer is filled, shuffled and dealt out in batches;
the scalar by which training normalizes,
E‖scale · x‖² = d_in (Scaling Monosemanticity, "Sparse autoencoders"), is estimated on the first buffer and never changes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from transformer_lens.model_bridge import TransformerBridge

from workbench.shapes import Activations, TokenMask, Tokens


@torch.no_grad()
def harvest(model: TransformerBridge, tokens: Tokens, hook_name: str) -> Activations:
    """Activations (batch, pos, d_in) at the hook point; the blocks after it do not run."""
    caught: list[torch.Tensor] = []
    layer = int(hook_name.split(".")[1])
    stop = layer if hook_name.endswith("hook_resid_pre") else layer + 1
    if stop == layer:  # the residual stream before block k is what stopping at k returns
        return model.forward(tokens, return_type=None, stop_at_layer=stop)
    model.run_with_hooks(tokens, return_type=None, stop_at_layer=stop, fwd_hooks=[(hook_name, lambda x, hook: caught.append(x.detach()))])
    assert len(caught) == 1, f"{hook_name} fired {len(caught)} times"
    return caught[0].flatten(2)


def padded(model: TransformerBridge, texts: Sequence[str]) -> tuple[Tokens, TokenMask]:
    """Texts as rows of tokens, the start token first, padded with it on the right; and which tokens are the texts' own. Causal: padding
    changes nothing before it."""
    tokenizer, start = model.tokenizer, model.tokenizer.bos_token_id
    ids = tokenizer([str(text) for text in texts], add_special_tokens=False, truncation=True, max_length=model.cfg.n_ctx - 1)["input_ids"]
    width = 1 + max(map(len, ids))
    tokens = torch.tensor([[start, *row] + [start] * (width - 1 - len(row)) for row in ids], device=model.cfg.device)
    pos = torch.arange(width, device=tokens.device)
    lengths = torch.tensor([len(row) for row in ids], device=tokens.device)
    return tokens, (pos > 0) & (pos <= lengths[:, None])


class ActivationStream:
    """Endless while its texts are: iterating yields raw activations (batch, d_in).

    texts      strings; each becomes one row, cut at n_ctx tokens
    batch      tokens in a batch
    buffer     tokens shuffled together
    seed       of the shuffle; the same texts and seed give the same batches
    """

    def __init__(
        self, model: TransformerBridge, texts: Iterable[str], hook_name: str, batch: int = 2048, buffer: int = 2**18, seed: int = 0
    ):
        self.model, self.hook_name, self.batch, self.buffer = model, hook_name, batch, buffer
        self.model_name = model.cfg.model_name
        self.rng = torch.Generator().manual_seed(seed)
        self.texts = iter(texts)
        self.first = self._fill()
        if len(self.first) < batch:
            raise ValueError(
                f"the texts hold {len(self.first):,} tokens, fewer than one batch of {batch:,}; give more text or a smaller batch"
            )
        self.d_in = self.first.shape[1]
        self.scale = math.sqrt(self.d_in / self.first.square().sum(1).mean().item())

    def __iter__(self) -> Iterator[Activations]:
        activations = self.first
        while len(activations) >= self.batch:
            shuffled = activations[torch.randperm(len(activations), generator=self.rng)]
            yield from (part for part in shuffled.split(self.batch) if len(part) == self.batch)
            activations = self._fill()

    def _fill(self) -> Activations:
        filled: list[torch.Tensor] = []
        while sum(map(len, filled)) < self.buffer and (some := list(islice(self.texts, 512))):
            some.sort(key=len)  # rows of similar length together: little padding
            for first in range(0, len(some), 128):
                tokens, is_text = padded(self.model, some[first : first + 128])
                filled.append(harvest(self.model, tokens, self.hook_name)[is_text])
        return torch.cat(filled) if filled else torch.zeros(0, 0)
