"""Attributed edges: the first-order estimate of what measuring gives (edges.py), for many pairs.

    attributed[u, v] = W_enc[:, v] · ∂x_b[pos_v]/∂x_a[pos_u] · part_u

part_u is what is switched off: act_u · W_dec[u], the error, or what a token adds. Positive: without u, v is less active. Targets are
active, so their non-linearity passes the change on as it is; a change that would switch one off entirely is overrated.
"""

from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph.places import Place
from workbench.replay.between import Between
from workbench.replay.jacobian import Jacobian


def attribute_edges(between: Between, first: Place, then: Place) -> Float[Tensor, "n_sources n_targets"]:
    """First-order change of every active feature of `then` by every source of `first`."""
    targets = then.keep(then.is_feature.nonzero()[:, 0])
    assert targets.sae is not None
    reads = targets.sae.W_enc.T[targets.feature].to(first.contribution)  # of 16 bits beside float32
    if targets.sae.cfg.centers_input:
        reads = reads - reads.mean(-1, keepdim=True)
    jacobian = Jacobian(between, first.hook_name, then.hook_name)
    return jacobian.products(first.pos, first.contribution, targets.pos, reads).to(first.contribution.dtype)
