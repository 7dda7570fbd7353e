"""Tests that need processes of their own: forked from a server that has imported what they need, and run nothing. One forked from the
tests' process, in which others have started threads, now and then dies in a library's, with a signal that is not the test's; one that
imports for itself spends ten seconds on it."""

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import torch

LOADED = ["workbench.features.index.index", "workbench.model.model", "workbench.sae.training.sharded", "transformer_lens.model_bridge"]


def in_processes(task: Callable, several: Sequence[tuple]) -> list[int | None]:
    """The exit codes of processes side by side, each of which ran task(*args): −9 for one that was killed."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(LOADED)
    processes = [server.Process(target=_run, args=(torch.get_num_threads(), task, args)) for args in several]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def in_process(task: Callable, *args: Any) -> int | None:
    return in_processes(task, [args])[0]


def _run(n_threads: int, task: Callable, args: tuple) -> None:
    torch.set_num_threads(n_threads)
    task(*args)
