"""Before a training run: the size, steps and learning rate that a budget affords, the loss to expect, what it needs on which device.

    budget = 12 · batch · d_in · d_sae · n_steps     FLOPs, dense-equivalent

The sizes come from the scaling laws of a sweep, by default the atlas's. What is carried over to another d_in and batch: the optimum at the
same n_features · n_tokens, and the loss per dimension. That is a guess where no sweep was run; the plan says how far it reaches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from workbench.model.gemm import product_sentence
from workbench.model.memory import USED, free_memory
from workbench.sae.scaling.power_law import Interval
from workbench.sae.scaling.sweep import BENT, ScalingLaws, bend_sentence
from workbench.sae.training.budget import Budget, budget, product_rate

ATLAS_RUNS = Path(__file__).parent / "atlas_runs.jsonl"
BATCH = 4096  # tokens; the paper's
ROUND = 256  # features: widths are multiples of it, as matrix units like them
REACHED = 0.4  # share of a GPU's matrix rate: what good training code reaches; not measured
MOST_DEVICES = 65_536


@dataclass(frozen=True)
class Device:
    """memory in bytes; rate in FLOPs per second that training reaches."""

    name: str
    memory: float
    rate: float


# Memory and dense bf16 rate by their makers' data sheets.
GPUS = {
    "l4": Device("l4", 24e9, 121e12 * REACHED),
    "rtx4090": Device("rtx4090", 24e9, 165e12 * REACHED),
    "a100": Device("a100", 80e9, 312e12 * REACHED),
    "h100": Device("h100", 80e9, 989e12 * REACHED),
    "h200": Device("h200", 141e9, 989e12 * REACHED),
}


@dataclass(frozen=True, repr=False)
class Plan:
    """What to train: TrainConfig(d_sae, n_steps, lr) on batches of `batch` tokens."""

    d_in: int
    flops: float
    batch: int
    d_sae: int
    n_steps: int
    lr: float
    loss: Interval  # at λ = 5, E‖x‖² = d_in
    devices: tuple[Device, ...]
    basis: tuple[str, ...]  # from which fit, and how far it is carried

    @property
    def table(self) -> pd.DataFrame:
        """A row a device: how many are needed, the memory that each one fills, the hours that these take together."""
        rows = []
        for device in self.devices:
            n_devices, need = self.devices_needed(device)
            rows.append((device.name, n_devices, need.memory / 1e9, device.memory / 1e9, self.flops / (n_devices * device.rate) / 3600))
        return pd.DataFrame(rows, columns=["device", "n_devices", "memory_gb", "has_gb", "hours"])

    def devices_needed(self, device: Device) -> tuple[int, Budget]:
        """How many devices hold the SAE, its features divided among them (sharded.py), and what each one holds."""
        n_devices = 1
        while (need := budget(self.d_in, self.d_sae, self.n_steps, self.batch, n_devices)).memory > USED * device.memory:
            n_devices *= 2
            if n_devices > MOST_DEVICES:
                raise ValueError(f"{self.d_sae:,} features of width {self.d_in:,} do not fit on {MOST_DEVICES:,} {device.name}")
        return n_devices, need

    def describe(self) -> list[str]:
        """The plan in sentences."""
        tokens = self.n_steps * self.batch
        said = [
            f"{self.d_sae:,} features, {self.n_steps:,} steps of {self.batch:,} tokens ({tokens:.2g} in all), learning rate {self.lr:.2g}",
            f"loss to expect at λ = 5, where E‖x‖² = {self.d_in:,}: {self.loss}",
            *self.basis,
        ]
        for row in self.table.itertuples():
            sharding = f"; features sharded over {row.n_devices} processes (torchrun)" if row.n_devices > 1 else ""
            said.append(f"{row.n_devices} × {row.device}: {row.memory_gb:.2g} of {row.has_gb:.3g} GB each, {duration(row.hours)}{sharding}")
        return said + [f"cpu: {product_sentence('cpu')}" for device in self.devices if device.name == "cpu"]

    def __repr__(self) -> str:
        return "\n".join([f"Plan for {self.flops:.2g} FLOPs", *(f"  {sentence}" for sentence in self.describe())])

    def _repr_html_(self) -> str:
        from widgets.marks import sentences_html

        return sentences_html(f"Plan for {self.flops:.2g} FLOPs", self.describe())


def plan(d_in: int, flops: float, *, batch: int = BATCH, laws: ScalingLaws | None = None, devices: Sequence[str] = ("cpu", *GPUS)) -> Plan:
    """What `flops` of training buy for activations of width d_in. laws: of your own sweep; the atlas's if left out.

    Raises ValueError for devices that are not known, and for a budget that buys less than one step.
    """
    if d_in < 1 or not (flops > 0 and math.isfinite(flops)) or batch < 1:
        raise ValueError(f"d_in {d_in}, a budget of {flops:g} FLOPs and batches of {batch} tokens: all must be positive and finite")
    chosen = tuple(find_device(name) for name in devices)
    laws = laws or ScalingLaws.read(ATLAS_RUNS)
    per_width = d_in / int(laws.runs["d_in"].iloc[0])
    alike = flops / per_width  # FLOPs that buy the same n_features · n_tokens in the sweep
    d_sae = max(ROUND, round(laws.law("n_features").at(alike).value / ROUND) * ROUND)
    n_steps = int(flops / budget(d_in, d_sae, 1, batch).flops)
    if n_steps < 1:
        raise ValueError(f"{flops:g} FLOPs are less than one step of {batch:,} tokens for {d_sae:,} features of width {d_in:,}")
    loss, lr = laws.law("loss").at(alike), laws.law("lr").at(alike).value
    loss = Interval(loss.value * per_width, loss.low * per_width, loss.high * per_width)
    return Plan(d_in, flops, batch, d_sae, n_steps, lr, loss, chosen, tuple(basis(laws, alike, d_in, batch)))


def basis(laws: ScalingLaws, alike: float, d_in: int, batch: int) -> list[str]:
    """Which fit a plan rests on, and where it leaves what the fit has seen."""
    first, computes = laws.runs.iloc[0], laws.inside["compute"]
    said = [f"from the laws of {len(laws.runs)} runs at {first['hook_name']} of {first['model_name']}, {len(computes)} optima"]
    beyond = max(alike / computes.max(), computes.min() / alike)
    if beyond > 1.5:
        said.append(f"carried {float(f'{beyond:.3g}'):,.0f}-fold beyond the compute of these runs: the interval holds only if the laws do")
        said += [f"{bend_sentence(laws.bend)}; expect more than the interval says"] if laws.bend > BENT else []
    if d_in != first["d_in"]:
        said.append(f"carried from d_in {first['d_in']} to {d_in:,} at equal n_features · n_tokens; a sweep of your own would tell")
    if batch != first["batch"]:
        said.append(f"lr found with batches of {first['batch']:,}; larger batches often bear a larger one")
    return said


def find_device(name: str) -> Device:
    """A device by name; "cpu" is this machine, its rate measured."""
    if name == "cpu":
        cpu = torch.device("cpu")
        return Device("cpu", float(free_memory(cpu) or "inf"), product_rate(768, 4096, 512, cpu))
    if name not in GPUS:
        raise ValueError(f"no device is called {name!r} here; there is cpu, {', '.join(GPUS)}")
    return GPUS[name]


def duration(hours: float) -> str:
    """0.4 s, 12 min, 3.1 h, 40 days."""
    units = ((24 * 365, "years"), (24, "days"), (1, "h"), (1 / 60, "min"))
    size, unit = next(((size, unit) for size, unit in units if hours >= 2 * size), (1 / 3600, "s"))
    return f"{hours / size:.3g} {unit}"
