"""What a classifier of texts can read: the activation, the features and the neurons, each pooled over a text's tokens in three ways.

    x, feature_acts, neurons (pos, n)  →  mean, largest and last over the text's tokens  →  (n_texts, n)

The start token is left out. Neurons are those of the last MLP before the hook point, after their non-linearity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from tqdm.auto import tqdm

from workbench.activations.rows import Row, as_batch, batches
from workbench.features.search.codes import text_tokens
from workbench.features.survey.neurons import neurons_before
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_dictionary, check_finite
from workbench.model.tokens import is_start_token, to_str_tokens
from workbench.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

POOLS = ("mean", "largest", "last")
N_TOKENS = 2048  # in a forward pass


@dataclass(frozen=True, eq=False)
class Reads:
    """By way of pooling, the matrices (n_texts, n) that classifiers read; features are sparse. tokens: the words of each text, as sets."""

    activation: dict[str, np.ndarray]
    features: dict[str, sparse.csr_array]
    neurons: dict[str, np.ndarray]  # empty where no MLP comes before
    neurons_at: str
    tokens: list[frozenset[str]]

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, texts: np.ndarray) -> "Reads":
        """Of some texts only, by number."""
        activation, neurons = ({pool: x[texts] for pool, x in pools.items()} for pools in (self.activation, self.neurons))
        features = {pool: x[texts] for pool, x in self.features.items()}
        return Reads(activation, features, neurons, self.neurons_at, [self.tokens[i] for i in texts])


@torch.no_grad()
def read(model: "TransformerBridge", sae: Dictionary, texts: Sequence[str], progress: bool = True) -> Reads:
    """Raises ValueError for an empty or over-long text, saying which one it is."""
    check_dictionary(model, sae)
    rows = [text_tokens(model, text, number) for number, text in enumerate(texts)]
    try:
        neurons_at = neurons_before(sae.reads)[-1]
    except ValueError:  # nothing comes before: a hook point at the very beginning, or outside of the blocks
        neurons_at = ""
    head = Head(model, [name for name in (sae.reads, neurons_at) if name])
    found: dict[int, dict[str, list[Any]]] = {}
    with tqdm(total=len(rows), desc="reading texts", unit="text", disable=not progress, delay=2) as bar:
        for batch in batches([len(row) for row in rows], N_TOKENS):
            acts = head(as_batch(model, [Row(rows[i], ()) for i in batch])[0])
            for at, i in enumerate(batch):
                is_text = ~is_start_token(model, torch.tensor([rows[i]]))[0].to(acts[sae.reads].device)
                x = acts[sae.reads][at, : len(rows[i])][is_text]
                check_finite(x, sae.reads)
                found[i] = {"activation": _pooled(x.float()), "features": _pooled_features(sae, x)}
                if neurons_at:
                    found[i]["neurons"] = _pooled(acts[neurons_at][at, : len(rows[i])][is_text].float())
            bar.update(len(batch))
    words = [frozenset(to_str_tokens(model, torch.tensor(row))) for row in rows]
    in_order = [found[i] for i in range(len(rows))]
    activation, features = (
        {pool: [each[kind][n] for each in in_order] for n, pool in enumerate(POOLS)} for kind in ("activation", "features")
    )
    neurons = {pool: np.stack([each["neurons"][n] for each in in_order]) for n, pool in enumerate(POOLS)} if neurons_at else {}
    return Reads(
        {pool: np.stack(many) for pool, many in activation.items()},
        {pool: sparse.csr_array(sparse.vstack(many, format="csr")) for pool, many in features.items()},
        neurons,
        neurons_at,
        words,
    )


def _pooled(x: torch.Tensor) -> list[np.ndarray]:
    return [each.cpu().numpy() for each in (x.mean(0), x.amax(0), x[-1])]


def _pooled_features(sae: Dictionary, x: torch.Tensor) -> list[sparse.csr_array]:
    with machine_rate():
        feature_acts = sae.encode(x.to(sae.W_enc.dtype)).float()
    return [sparse.csr_array(each[None]) for each in _pooled(feature_acts)]
