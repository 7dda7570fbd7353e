"""What an evaluation found: the measures of an SAE or a transcoder as a whole and by feature, and how it shows itself. evaluate.py measures
and defines them."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Losses:
    """Mean next-token loss, nats a token, with the activation at the hook point (a transcoder's output) as it is and replaced."""

    clean: float
    spliced: float  # by x_hat, or y_hat
    zero: float
    mean: float  # by its mean over the first texts
    n_tokens: int

    @property
    def recovered(self) -> float:
        """1: x_hat is as good as x; 0: no better than zeros; NaN: not measured, or zeros do no harm."""
        return share(self.zero - self.spliced, self.zero - self.clean)

    @property
    def recovered_mean(self) -> float:
        """The same against the mean of x, which is harder: zeros are far from anything that the model knows."""
        return share(self.mean - self.spliced, self.mean - self.clean)


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """What `evaluate` measured. `table`: one row a feature, with density and max_act."""

    l0: float
    fvu: float
    losses: Losses
    n_tokens: int
    table: pd.DataFrame
    hook_name: str = ""
    model_name: str = ""
    truth: pd.DataFrame = field(default_factory=pd.DataFrame)  # on the atlas: kind of concept, n_concepts, f1, found
    predict: str = ""  # a transcoder's output

    @property
    def explained_variance(self) -> float:
        """1 − fvu."""
        return 1 - self.fvu

    @property
    def place(self) -> str:
        """Where it reads, and where a transcoder writes."""
        return f"{self.hook_name} → {self.predict}" if self.predict else self.hook_name

    @property
    def hat(self) -> str:
        """What its output is called: x_hat, or a transcoder's y_hat."""
        return "y_hat" if self.predict else "x_hat"

    @property
    def dead(self) -> float:
        """Share of features that were active on none of `n_tokens` tokens."""
        return float((self.table["density"] == 0).mean())

    def measures(self) -> dict[str, float | int]:
        """All numbers about the SAE as a whole: a row of a table that compares several."""
        return {
            "d_sae": len(self.table),
            "l0": self.l0,
            "fvu": self.fvu,
            "explained_variance": self.explained_variance,
            "loss": self.losses.clean,
            "loss_spliced": self.losses.spliced,
            "loss_zero": self.losses.zero,
            "loss_mean": self.losses.mean,
            "loss_recovered": self.losses.recovered,
            "loss_recovered_mean": self.losses.recovered_mean,
            "n_loss_tokens": self.losses.n_tokens,
            "dead": self.dead,
            "n_tokens": self.n_tokens,
        }

    def density_histogram(self) -> pd.DataFrame:
        """How many features lie in each quarter of a decade of density: columns low, high, n_features; dead features are in none."""
        density = self.table["density"].to_numpy()
        lowest = min(np.floor(4 * np.log10(1 / self.n_tokens)) / 4, -0.25)  # of one token, too, there is a bin
        edges = 10.0 ** np.arange(lowest, 0.25, 0.25)
        counts, _ = np.histogram(np.clip(density[density > 0], edges[0], edges[-1]), edges)
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n_features": counts})

    def _repr_html_(self) -> str:
        from widgets.html.evaluate import evaluation_html

        return evaluation_html(self)

    def __repr__(self) -> str:
        losses = self.losses
        lines = [
            f"Evaluation of {len(self.table):,} features at {self.place}, over {self.n_tokens:,} tokens; start tokens left out",
            f"  l0 {self.l0:.1f}   fvu {self.fvu:.3f}   explained variance {self.explained_variance:.1%}   dead {self.dead:.1%}",
            f"  loss recovered {losses.recovered:.1%} against zeros, {losses.recovered_mean:.1%} against the mean",
            f"  loss {losses.clean:.3f}, with {self.hat} {losses.spliced:.3f}, with zeros {losses.zero:.3f}, "
            f"with the mean {losses.mean:.3f}; over {losses.n_tokens:,} tokens",
        ]
        lines += [f"  F1 {row.kind:<12}{row.f1:.2f}   {row.n_concepts} concepts" for row in self.truth.itertuples()]
        return "\n".join(lines)


def share(part: float, whole: float | int) -> float:
    """part / whole; NaN of nothing."""
    return part / whole if whole else float("nan")
