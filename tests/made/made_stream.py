"""Activations made of a few known directions: what an SAE should find in them is known."""

from collections.abc import Iterator

import torch

D_IN, D_SAE, N_DIRECTIONS = 16, 24, 20


class Planted:
    """Batches of one or two of 20 directions, each from its own seed: position is the number of the next."""

    hook_name, model_name, d_in = "blocks.0.hook_resid_pre", "planted", D_IN

    def __init__(self, n_batches: int = 1500, batch: int = 256, bad_batch: int = -1):
        rng = torch.Generator().manual_seed(0)
        directions = torch.randn(N_DIRECTIONS, D_IN, generator=rng)
        self.directions = directions / directions.norm(dim=1, keepdim=True)
        self.n_batches, self.batch, self.bad_batch, self.next = n_batches, batch, bad_batch, 0
        self.scale = (D_IN / self.sample(0).square().sum(1).mean().item()) ** 0.5

    def sample(self, seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        shape = self.batch, N_DIRECTIONS
        return 3 * (torch.rand(shape, generator=rng) < 0.07) * (1 + torch.rand(shape, generator=rng)) @ self.directions

    def __iter__(self) -> Iterator[torch.Tensor]:
        while self.next < self.n_batches:
            number, self.next = self.next, self.next + 1
            x = self.sample(1000 + number)
            if number == self.bad_batch:
                x[3, 5] = torch.inf
            yield x

    def position(self) -> dict[str, int]:
        return {"batch": self.next}

    def seek(self, position: dict[str, int]) -> None:
        self.next = position["batch"]


class PlantedMany:
    """Two hook points at once: the second one's activations are the first's, doubled."""

    model_name, hook_names = "planted", ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre")

    def __init__(self, n_batches: int):
        self.one = Planted(n_batches)
        self.d_in = dict.fromkeys(self.hook_names, D_IN)
        self.scale = {self.hook_names[0]: self.one.scale, self.hook_names[1]: self.one.scale / 2}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for x in self.one:
            yield {self.hook_names[0]: x, self.hook_names[1]: 2 * x}
