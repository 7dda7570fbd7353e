"""Rows to finish, changed at one position each, and the slow method that finishes them."""

import torch

from workbench.replay.reading import Columns
from workbench.replay.replay import Replay

COLUMNS = Columns((5, 7), has_mean=True)


def perturbed(made: Replay, n_rows: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows at every position, in no order, the first and the last one among them."""
    torch.manual_seed(3)
    pos = torch.cat([torch.tensor([made.n_pos - 1, 0]), torch.randint(made.n_pos, (n_rows - 2,))])
    return pos, made.clean[pos] + torch.randn(n_rows, made.clean.shape[1])


def one_at_a_time(model, hook_name, tokens, pos, x, columns):
    """The slow method: one hooked forward pass per row."""
    rows = []
    for p, value in zip(pos.tolist(), x, strict=True):

        def edit(activation, hook, p=p, value=value):
            activation[:, p] = value.view(activation.shape[2:])
            return activation

        rows.append(columns.of(model.run_with_hooks(tokens, fwd_hooks=[(hook_name, edit)])[:, -1]))
    return torch.cat(rows)


def changed_at_several_positions(made: Replay) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(row, pos, x) of six rows: two positions each, but the first position only in the first row and all of them in the last."""
    torch.manual_seed(4)
    positions = [[0], [3, 7], [10, 4], [made.n_pos - 1, 5], [8, 9], list(range(made.n_pos))]
    row = torch.tensor([r for r, some in enumerate(positions) for _ in some])
    pos = torch.tensor([p for some in positions for p in some])
    return row, pos, made.clean[pos] + torch.randn(len(pos), made.clean.shape[1])
