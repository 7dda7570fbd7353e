"""What filtering by prompt sets costs once the prompts are encoded: bit sets against dense booleans, over 34 million features.

    python benchmarks/find.py [--features 33554432] [--positive 16] [--negative 16] [--active 8192] [--missed 0] [--rounds 5]

Random codes: so many features are active on each prompt; some of them on every positive one, so that the filters leave something. Baseline:
a boolean for every (prompt, feature), combined with all() and any(). The bit sets include counting what each filter removed and reading
off the features that are left; making them from the prompts' active entries is a line of its own.
"""

import argparse

import numpy as np
from setting import take_turns

from workbench.features.search.bit_sets import all_of, bits_of, in_most, members, size, without


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=int, default=2**25)
    parser.add_argument("--positive", type=int, default=16)
    parser.add_argument("--negative", type=int, default=16)
    parser.add_argument("--active", type=int, default=8192, help="features that are active on a prompt")
    parser.add_argument("--missed", type=int, default=0, help="positive prompts on which a feature may be silent")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    rng, n = np.random.default_rng(0), options.features
    common = rng.choice(n, 100, replace=False)
    prompts = [rng.choice(n, options.active) for _ in range(options.positive + options.negative)]
    prompts = [np.unique(np.append(features, common) if i < options.positive else features) for i, features in enumerate(prompts)]
    made: dict[str, list[np.ndarray]] = {}
    left: dict[str, np.ndarray] = {}

    def make() -> None:
        made["bits"] = [bits_of(features, n) for features in prompts]

    def filter_bits() -> None:
        positive, negative = made["bits"][: options.positive], made["bits"][options.positive :]
        kept = in_most(all_of(n), positive, options.missed)
        silent = without(kept, negative)
        assert size(kept) >= size(silent)
        left["bits"] = members(silent)

    dense = np.zeros((len(prompts), n), dtype=bool)
    for row, features in zip(dense, prompts, strict=True):
        row[features] = True

    def filter_dense() -> None:
        kept = dense[: options.positive].sum(0, dtype=np.uint8) >= options.positive - options.missed
        left["dense"] = np.flatnonzero(kept & ~dense[options.positive :].any(0))

    seconds = take_turns({"make": make, "bits": filter_bits, "dense": filter_dense}, options.rounds)
    assert np.array_equal(left["bits"], left["dense"]), "bit sets and booleans differ"
    print(f"{options.positive} + {options.negative} prompts over {n:,} features, {options.active:,} active on each")
    print(f"{len(left['bits'])} features pass\n")
    print(f"{'dense booleans':<40}{1e3 * seconds['dense']:>8.1f} ms")
    print(f"{'bit sets':<40}{1e3 * seconds['bits']:>8.1f} ms   target ≤ 25, {seconds['dense'] / seconds['bits']:.0f} × faster")
    print(f"{'making them from active entries':<40}{1e3 * seconds['make']:>8.1f} ms")


if __name__ == "__main__":
    main()
