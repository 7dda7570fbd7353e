"""What belongs to the whole process and not to a call of ours: put back as it was.

Libraries change it on their first use: sklearn 1.9 writes two environment variables and draws from `random`, torch 2.13's inductor, which
TransformerLens imports, writes one, numba (under UMAP) sets torch's number of threads, and transformers draws a model's weights from
torch's generator before it reads them.
"""

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch

_CHANGING = RLock()  # two threads that save and put back would put back each other's. Whoever holds it waits for no model (`alone`)


@contextmanager
def put_back() -> Iterator[None]:
    """Inside, environment variables, the states of random, numpy and torch, torch's number of threads and default dtype may change."""
    with _CHANGING:
        environ, states, n_threads, dtype = dict(os.environ), _states(), torch.get_num_threads(), torch.get_default_dtype()
        try:
            yield
        finally:
            for name in os.environ.keys() | environ.keys():
                if name not in environ:
                    del os.environ[name]
                elif os.environ.get(name) != environ[name]:
                    os.environ[name] = environ[name]
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
            if states[3]:
                torch.cuda.set_rng_state_all(states[3])
            if torch.get_num_threads() != n_threads:
                torch.set_num_threads(n_threads)
            torch.set_default_dtype(dtype)


def _states() -> tuple:
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpus


@contextmanager
def quiet(*messages: str) -> Iterator[None]:
    """Inside, warnings that begin so are not shown; without a message, none is."""
    with _CHANGING, warnings.catch_warnings():
        for message in messages or ("",):
            warnings.filterwarnings("ignore", message=message)
        yield
