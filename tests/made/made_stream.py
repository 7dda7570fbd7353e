"""Activations made of a few known directions: what an SAE should find in them is known."""

from collections.abc import Iterator

import torch

D_IN, D_OUT, D_SAE, N_DIRECTIONS = 16, 12, 24, 20


class Planted:
    """Batches of one or two of 20 directions, each from its own seed: position is the number of the next."""

    hook_name, model_name, d_in = "blocks.0.hook_resid_pre", "planted", D_IN

    def __init__(self, n_batches: int = 1500, batch: int = 256, bad_batch: int = -1):
        rng = torch.Generator().manual_seed(0)
        directions = torch.randn(N_DIRECTIONS, D_IN, generator=rng)
        self.directions = directions / directions.norm(dim=1, keepdim=True)
        self.n_batches, self.batch, self.bad_batch, self.next = n_batches, batch, bad_batch, 0
        self.scale = (D_IN / self.sample(0).square().sum(1).mean().item()) ** 0.5

    def codes(self, seed: int) -> torch.Tensor:
        """(batch, N_DIRECTIONS): how far along each direction."""
        rng = torch.Generator().manual_seed(seed)
        shape = self.batch, N_DIRECTIONS
        return 3 * (torch.rand(shape, generator=rng) < 0.07) * (1 + torch.rand(shape, generator=rng))

    def sample(self, seed: int) -> torch.Tensor:
        return self.codes(seed) @ self.directions

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


class PlantedPair:
    """Two places: at the second stands what is active at the first, each direction turned into another, and x @ skip."""

    model_name, read, written = "planted", "blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out"
    d_in = {read: D_IN, written: D_OUT}

    def __init__(self, n_batches: int = 1500, has_skip: bool = False):
        self.one, rng = Planted(n_batches), torch.Generator().manual_seed(5)
        outputs = torch.randn(N_DIRECTIONS, D_OUT, generator=rng)
        self.outputs = outputs / outputs.norm(dim=1, keepdim=True)
        self.skip = has_skip * torch.randn(D_IN, D_OUT, generator=rng) / 4
        mean_square = self.sample(0)[self.written].square().sum(1).mean().item()
        self.scale = {self.read: self.one.scale, self.written: (D_OUT / mean_square) ** 0.5}

    def sample(self, seed: int) -> dict[str, torch.Tensor]:
        x = self.one.sample(seed)
        return {self.read: x, self.written: self.one.codes(seed) @ self.outputs + x @ self.skip}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while self.one.next < self.one.n_batches:
            self.one.next += 1
            yield self.sample(999 + self.one.next)

    def position(self) -> dict[str, int]:
        return self.one.position()

    def seek(self, position: dict[str, int]) -> None:
        self.one.seek(position)
