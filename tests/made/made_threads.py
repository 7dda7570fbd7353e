"""Several threads at one model: what each call returns beside the others, held against what it returns alone."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

CLOSE = 1e-5  # of the largest number of a result


@dataclass
class Seen:
    """By call: how often it was made, how often to the bit as alone; what was raised, and what came back otherwise."""

    n_calls: dict[str, int] = field(default_factory=dict)
    n_equal: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def side_by_side(calls: Mapping[str, Callable[[], Any]], seconds: float, at_least: int = 2) -> Seen:
    """Every call in a thread of its own, again and again for so many seconds, and `at_least` times."""
    expected = {name: numbers(call()) for name, call in calls.items()}
    seen, start, until = Seen(dict.fromkeys(calls, 0), dict.fromkeys(calls, 0)), threading.Barrier(len(calls)), 0.0

    def run(name: str) -> None:
        start.wait()
        while time.monotonic() < until or seen.n_calls[name] < at_least:
            try:
                found = numbers(calls[name]())
            except BaseException as error:  # of a thread, where nobody else would see it
                seen.errors.append(f"{name}: {type(error).__name__}: {error}")
                return
            seen.n_calls[name] += 1
            seen.n_equal[name] += all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(found, expected[name], strict=True))
            if other := difference(found, expected[name]):
                seen.others.append(f"{name}: {other}")

    until = time.monotonic() + seconds
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.1, until + 60 - time.monotonic()))
        if thread.is_alive():
            seen.errors.append("a thread hangs")
    return seen


def difference(found: list[Tensor], expected: list[Tensor]) -> str:
    """What differs by more than rounding; "" where nothing does."""
    for mine, alone in zip(found, expected, strict=True):
        if mine.shape != alone.shape:
            return f"{tuple(mine.shape)} instead of {tuple(alone.shape)}"
        if not torch.allclose(
            mine, alone, rtol=0, atol=CLOSE * float(alone.abs().nan_to_num().max()) if alone.numel() else 0, equal_nan=True
        ):
            return f"differs by {(mine - alone).abs().max():.2g} of {alone.abs().max():.2g}"
    return ""


def numbers(result: Any) -> list[Tensor]:
    """All that a result holds of numbers, in an order of its own."""
    if isinstance(result, Tensor):
        return [result.detach().double()]
    if isinstance(result, pd.DataFrame):
        return [torch.tensor(result[name].to_numpy(dtype=float)) for name in result.select_dtypes("number")]
    return [number for part in result for number in numbers(part)]


def calls_of(bench: Any, prompt: str, metric: Any, steered: int) -> dict[str, Callable[[], Any]]:
    """What a notebook's cells and panes do with a bench, each giving numbers."""
    from workbench.circuits.intervene import clamp
    from workbench.model.tokens import to_tokens

    model, tokens, here = bench.model, to_tokens(bench.model, prompt), bench.sae.reads

    def plain() -> list[Tensor]:
        with torch.no_grad():
            return [model(tokens), model(prompt, return_type="logits")]

    def cached() -> list[Tensor]:
        with torch.no_grad():
            logits, cache = model.run_with_cache(tokens)
        return [logits, *(cache[f"blocks.{layer}.hook_resid_post"] for layer in range(model.cfg.n_layers))]

    def edited() -> Tensor:
        with torch.no_grad():
            return model.run_with_hooks(tokens, fwd_hooks=[(here, lambda x, hook: 1.5 * x)])

    def clamped() -> list[Tensor]:
        with torch.no_grad(), clamp(bench, {steered: 5.0}):
            first = model(tokens)
            time.sleep(0.02)  # idle, as a cell that waits for its reader: the others go on, clean
            return [first, model(tokens), bench.rank(prompt, metric, ablate=4, progress=False).table]

    def steered_texts() -> list[Tensor]:
        steering = bench.steer(prompt, {steered: 1.0}, max_new_tokens=6, max_act={steered: 5.0}, progress=False)
        return [torch.tensor([*each.log_probs, *each.activations, *each.next_tokens.values()]) for each in steering.continuations]

    return {
        "plain": plain,
        "run_with_cache": cached,
        "run_with_hooks": edited,
        "clamp": clamped,
        "rank": lambda: bench.rank(prompt, metric, progress=False).table,
        "rank again": lambda: bench.rank(prompt, metric, ablate=20, progress=False).table,
        "steer": steered_texts,
        "find": lambda: bench.find([prompt, prompt], [prompt[: len(prompt) // 2]], share=0.5, margin=9.0, max_density=1.0).table,
        "find_by_attribution": lambda: bench.find_by_attribution(prompt, metric).table,
    }
