"""Which features point the same way: cosines of decoder directions, within a dictionary and across dictionaries of one width d_in.

Scaling Monosemanticity, "Feature Survey".
"""

from collections.abc import Mapping

import pyarrow as pa
import torch
from torch.nn.functional import normalize

from workbench.model.gemm import machine_rate
from workbench.sae.dictionary import Dictionary

N_NEIGHBORS = 6
N_ROWS = 256  # of cosines at once
NEIGHBOR = pa.struct({"sae": pa.string(), "feature": pa.int32(), "cosine": pa.float32()})


@torch.no_grad()
def nearest(directions: torch.Tensor, others: torch.Tensor, n: int = N_NEIGHBORS) -> tuple[torch.Tensor, torch.Tensor]:
    """(cosines, indices into `others`), each (n_rows, n), largest first. Both are given as unit rows."""
    n, found = min(n, len(others)), []
    with machine_rate():
        for rows in directions.split(N_ROWS):
            found.append((rows @ others.T).topk(n, dim=1))
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])


def neighbors(saes: Mapping[str, Dictionary], name: str, first: int, n_rows: int) -> list[list[dict]]:
    """For each of n_rows features of one SAE from `first` on: its N_NEIGHBORS nearest in every one whose rows are as long, itself left
    out."""
    own = saes[name]
    rows = normalize(own.W_dec[first : first + n_rows].float(), dim=1)
    found: list[list[dict]] = [[] for _ in range(n_rows)]
    for other_name, other in saes.items():
        if other.W_dec.shape[1] != own.W_dec.shape[1]:
            continue
        cosines, indices = nearest(rows, normalize(other.W_dec.float(), dim=1), N_NEIGHBORS + (other is own))
        for i, (values, features) in enumerate(zip(cosines.tolist(), indices.tolist(), strict=True)):
            pairs = [pair for pair in zip(features, values, strict=True) if other is not own or pair[0] != first + i]
            found[i] += [{"sae": other_name, "feature": f, "cosine": cosine} for f, cosine in pairs[:N_NEIGHBORS]]
    return found
