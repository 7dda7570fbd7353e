"""Random choices that are the same however texts are cut up and read: hashes (splitmix64) of what is chosen from."""

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)


def draws(hashes: np.ndarray, pos: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Random numbers of 50 bits, of the row's hash, the position and the feature."""
    return _splitmix(hashes ^ (pos.astype(np.uint64) << np.uint64(32)) ^ (feature.astype(np.uint64) + STEP)) >> np.uint64(14)


def drawn(numbers: np.ndarray, lengths: np.ndarray, n_tokens: int) -> np.ndarray:
    """(n_rows) bool: rows drawn at random until they hold n_tokens. Each row's chance is a hash of its number: of what is drawn of all
    texts, every part of them draws its share, and perhaps more."""
    order = np.argsort(_splitmix(numbers.astype(np.uint64) + STEP))
    is_drawn = np.zeros(len(numbers), dtype=bool)
    is_drawn[order] = np.cumsum(lengths[order]) - lengths[order] < n_tokens
    return is_drawn


def _splitmix(mixed: np.ndarray) -> np.ndarray:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
