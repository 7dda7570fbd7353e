"""Every tensor shape of the workbench, named once.

batch = prompts or texts, pos = token positions, d_in = width of the activations an SAE reads, d_sae = number of features.
Shapes are checked at run time under pytest only (jaxtyping + beartype), so they cost a user nothing.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch pos"]
Logits = Float[Tensor, "batch pos d_vocab"]
LastLogits = Float[Tensor, "batch d_vocab"]  # at the last position only: what a metric reads

Activations = Float[Tensor, "*batch d_in"]  # the model's, at a hook point
FeatureActs = Float[Tensor, "*batch d_sae"]  # the SAE's, ≥ 0
TokenMask = Bool[Tensor, "batch pos"]

Directions = Float[Tensor, "d_sae d_in"]  # W_dec: row i is feature i's direction
Rows = Float[Tensor, "n_rows"]  # one number per (feature, position) pair
RowIndex = Int[Tensor, "n_rows"]
