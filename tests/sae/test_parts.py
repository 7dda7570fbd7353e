"""Feature activations a part of the rows at a time are, to the last bit, those of all rows at once; memory is that of a part."""

import weakref

import pytest
import torch
from made_sae import every_architecture, random_sae
from made_transcoders import random_cross_layer

from workbench.sae import parts
from workbench.sae.stack import Predictions, predicted, stack_of

N_ROWS = 200


@pytest.fixture()
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "N_ACTS", 32 * 30)  # 30 rows of 32 features: 7 parts


def rows(n: int = N_ROWS) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(1))


@every_architecture
def test_active_entries_have_the_bits_of_the_dense_activations(architecture: str, k: int | None, small_parts):
    sae, x = random_sae(architecture, k), rows()
    dense, heard = sae.encode(x), []
    pairs, acts = parts.active(sae, x, lambda n_active, n_rows: heard.append((n_active, n_rows)))
    assert parts.n_parts(32, N_ROWS) == 7 == len(heard) and heard[-1] == (len(pairs), N_ROWS)
    assert torch.equal(pairs, dense.nonzero()) and torch.equal(acts, dense[dense > 0])
    wanted = torch.cartesian_prod(torch.arange(N_ROWS), torch.arange(32))[torch.randperm(6400)[:999]]
    assert torch.equal(parts.acts_at(sae, x, wanted), dense[wanted[:, 0], wanted[:, 1]])


def test_no_part_has_so_few_rows_that_products_are_summed_in_another_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "N_ACTS", 1)
    sizes: list[int] = []
    parts.in_parts(random_sae(), rows(), lambda first, feature_acts: sizes.append(len(feature_acts)))
    assert sum(sizes) == N_ROWS and min(sizes) >= parts.FEWEST_ROWS
    assert parts.n_parts(2**20, 1) == 1


def test_a_part_is_gone_before_the_next_is_encoded(small_parts):
    sae, alive = random_sae(), []

    def keep(first: int, feature_acts: torch.Tensor) -> None:
        assert not any(ref() is not None for ref in alive)
        alive.append(weakref.ref(feature_acts))

    parts.in_parts(sae, rows(), keep)
    assert len(alive) == 7


def test_predictions_of_several_layers_have_the_bits_of_those_made_at_once(small_parts):
    clt = random_cross_layer()
    stack = stack_of(clt)
    x = [torch.randn(N_ROWS, it.W_enc.shape[0], generator=torch.Generator().manual_seed(i)) for i, it in enumerate(stack)]
    acts, predictions = [it.encode(read) for it, read in zip(stack, x, strict=True)], Predictions(stack)
    for layer, read in enumerate(x):
        predictions.read(layer, read)
    for layer, read in enumerate(x):
        assert torch.equal(predictions.at(layer, read), predicted(stack, acts, read, layer))
