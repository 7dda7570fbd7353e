"""What the model would say next if it stopped after each block: the plain logit lens at one token of a prompt.

    p[layer] = softmax(unembed(ln_final(x[layer, pos])))            x: the residual stream before each block, and after the last

lens = bench.logit_lens(prompt, " Bryant")              lens.table: the likeliest tokens of each depth; lens.own: the model's own choice

The model's own final norm and unembedding (and scale and soft cap, where it has them) are put on every stream; nothing is trained. After
nostalgebraist, "interpreting GPT: the logit lens" (2020). The stream before the last blocks need not be written in the basis that the
unembedding reads (Belrose et al. 2023 train a map for each layer): an unlikely token early on is no proof that it is not there.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, SupportsIndex

import pandas as pd
import torch

from workbench.features.search.ways import position
from workbench.given import counted
from workbench.model.chat import Chat, written
from workbench.model.hooks import check_finite, last_logits, seen
from workbench.model.start import start_token
from workbench.model.tokens import distinct_str_tokens, to_str_tokens, to_tokens
from workbench.replay.precision import InFloat32
from workbench.replay.reading import Reading

ABOUT = "plain logit lens: the final norm and the unembedding put on the stream at each depth (nostalgebraist 2020)"


@dataclass(frozen=True, repr=False, eq=False)
class LogitLens:
    """Next-token predictions read off the residual stream at each depth, after the token at `pos`.

    `table`: one row per depth and rank: layer (blocks passed), hook_name, rank (1 is the likeliest), token, probability. The last depth is
    the model's own prediction.
    """

    prompt: str
    str_tokens: list[str]  # of the whole prompt, the start token with them
    pos: int
    table: pd.DataFrame
    own: pd.DataFrame  # layer, hook_name, probability and rank there of the token that the model says at last
    answer: str  # that token

    def _repr_html_(self) -> str:
        from widgets.html.heads import lens_html

        return lens_html(self, ABOUT)

    def __repr__(self) -> str:
        first = self.table[self.table["rank"] == 1]
        lines = [f"LogitLens after {self.str_tokens[self.pos]!r} (position {self.pos}) of {self.prompt!r}: {ABOUT}"]
        for row, own in zip(first.itertuples(), self.own.itertuples(), strict=True):
            lines.append(
                f"  {row.layer:>3} blocks  {row.token!r} {row.probability:.1%}   {self.answer!r} #{own.rank:,} {own.probability:.1%}"
            )
        return "\n".join(lines)


@torch.no_grad()
def logit_lens(model: Any, prompt: str | Chat, token: str | SupportsIndex | None = None, *, top: int = 5) -> LogitLens:
    """token: its text (the last one that reads so) or its position, start token counted; None: the last one. top: tokens of each depth.

    Raises ValueError for a token that is not in the prompt, and for top < 1.
    """
    top = counted(top, "top", "token")
    text = written(model, prompt)
    tokens = to_tokens(model, text)
    str_tokens = to_str_tokens(model, tokens)
    pos = len(str_tokens) - 1 if token is None else position(str_tokens, len(start_token(model).ids), token)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.cfg.n_layers)] + [f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]
    caught: dict[str, torch.Tensor] = {}
    with InFloat32(model):
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(seen(model, name, lambda x, name=name: caught.__setitem__(name, x[0, -1].clone())))
            logits = last_logits(model, tokens[:, : pos + 1])  # what comes later does not reach this place
        streams = torch.stack([caught[name] for name in names])
        check_finite(streams, f"{names[0]} to {names[-1]}")
        reading = Reading(model, tokens[:, : pos + 1], logits)
        reading.measure(streams[-1:])
        p = reading.logits(streams).softmax(-1)
    best = p.topk(min(top, p.shape[-1]))
    shown = distinct_str_tokens(model, best.indices.flatten().unique().tolist())
    words = dict(zip(best.indices.flatten().unique().tolist(), shown, strict=True))
    rows = [
        (layer, name, rank, words[i], value)
        for layer, (name, ids, values) in enumerate(zip(names, best.indices.tolist(), best.values.tolist(), strict=True))
        for rank, (i, value) in enumerate(zip(ids, values, strict=True), 1)
    ]
    last = int(p[-1].argmax())
    own = pd.DataFrame({"layer": range(len(names)), "hook_name": names, "probability": p[:, last].tolist()})
    own["rank"] = (1 + (p > p[:, last : last + 1]).sum(-1)).tolist()
    table = pd.DataFrame(rows, columns=["layer", "hook_name", "rank", "token", "probability"])
    return LogitLens(text, str_tokens, pos, table, own, words[last])
