"""One shard of an index: its texts go through the model once, and every SAE's active entries are summarized.

    texts → rows of tokens → batches of similar length → activations at every hook point → each SAE's active entries, some rows at a time
          → every MOST entries: feature-major, summarized, written as a part → the parts merged: the shard's folder, complete or absent

Memory holds one batch of the model, ELEMENTS feature activations, MOST entries and one range of features, whatever the number of features
or texts. The start token that leads every row is left out.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from scipy import sparse

from workbench.activations.rows import LONGEST_ROW, as_batch, batches, led
from workbench.features.index.building.shards import Shard, Summaries, ranges, write_table
from workbench.features.index.building.windows import Run, drawn, merge, summarize
from workbench.features.index.layout import PART_BITS
from workbench.files import whole_folder, write_json
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_finite
from workbench.model.start import start_token
from workbench.model.tokens import n_unknown, text_ids, unknown_note
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Activations, FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST = 2**23  # entries summarized together: 100 MB
FIRST = 2**16  # entries that an SAE's arrays have room for at first
PEAK_TOKENS = 2**18  # tokens of the rows of which every feature's peak is kept, drawn from all of them
# Feature activations at once: on a CPU 16 MB, which the allocator gives again without new page faults; a GPU wants few launches.
ELEMENTS = {"cpu": 2**22, "cuda": 2**27}
FEWEST_ROWS = 64  # … but enough tokens to be worth reading the encoder's weights for
BATCH = {"cpu": 4096, "cuda": 65_536}  # tokens in a forward pass, padding included
MOST_PARTS = 16  # files open at once


class TokenRow(NamedTuple):
    """A row of tokens that the model reads at once: a text, or a part of a long one."""

    number: int
    ids: list[int]  # without the start token that the model reads before them
    goes_on: bool  # does the text, in the next row?


@torch.no_grad()
def collect(
    head: Head, saes: Mapping[str, Dictionary], shard: Shard, folder: Path, on_tokens: Callable[[int], object] = lambda n: None
) -> None:
    """Write folder/00003: each SAE's summaries, the rows' tokens and shard.json. head: the model, up to the SAEs' hook points."""
    folder.mkdir(parents=True, exist_ok=True)
    model, n_tokens = head.model, 0
    with whole_folder(folder / shard.name) as out, machine_rate():
        all_ids = text_ids(model, shard.texts)
        n_unknown_tokens = n_unknown(model, shard.texts, all_ids)
        unknown_note(n_unknown_tokens, sum(map(len, all_ids)), "the texts")  # raises where all are
        rows = token_rows(model, shard, all_ids)
        parts, pending = Parts(out, saes), Pending(list(saes))
        hashes = np.array([_hash(row.ids) for row in rows], dtype=np.uint64)
        is_new = np.zeros(len(rows), dtype=bool)
        is_new[np.unique(hashes, return_index=True)[1]] = True
        row_numbers, lengths = (
            np.array(column, dtype=np.int64) for column in ([row.number for row in rows], [len(row.ids) for row in rows])
        )
        keeps_peaks = drawn(row_numbers, lengths, PEAK_TOKENS)
        for batch in batches(lengths.tolist(), BATCH.get(torch.device(str(model.cfg.device)).type, 4096)):
            n_read = pending.read(head, saes, [rows[i].ids for i in batch])
            pending.rows += [(rows[i].number, hashes[i], is_new[i], keeps_peaks[i], len(rows[i].ids)) for i in batch]
            n_tokens += n_read
            on_tokens(n_read)
            if pending.n_entries >= MOST:
                parts.add(pending)
                pending = Pending(list(saes))
        parts.add(pending)
        parts.merge_all()
        numbers, tokens, goes_on = zip(*rows, strict=True) if rows else ((), (), ())
        arrays = pa.array(numbers, pa.int64()), pa.array(tokens, pa.list_(pa.int32())), pa.array(goes_on, pa.bool_())
        write_table(out / "texts.parquet", pa.table(arrays, names=["row", "tokens", "goes_on"]))
        write_table(out / "drawn.parquet", pa.table({"row": row_numbers[keeps_peaks], "n_tokens": lengths[keeps_peaks]}))
        counts = {"n_texts": len(shard.texts), "n_tokens": n_tokens, "n_unknown": n_unknown_tokens}
        write_json(out / "shard.json", {"fingerprint": shard.fingerprint, **counts})


def token_rows(model: "TransformerBridge", shard: Shard, all_ids: Sequence[Sequence[int]]) -> list[TokenRow]:
    """Each text's tokens; those of a long one in several rows, of which each sees itself only."""
    length = min(model.cfg.n_ctx, LONGEST_ROW) - len(start_token(model).ids)
    rows = []
    for i, ids in enumerate(all_ids):
        number = (shard.first_text + i) << PART_BITS
        parts = enumerate(range(0, len(ids), length))
        rows += [TokenRow(number + n, list(ids[at : at + length]), at + length < len(ids)) for n, at in parts]
    return rows


def _hash(ids: list[int]) -> int:
    return int.from_bytes(hashlib.blake2b(np.array(ids, dtype=np.int32).tobytes(), digest_size=8).digest(), "little")


class Entries:
    """Active entries of one SAE in three arrays that double when they are full.

    A small array for every call instead would be cut from the place where the last 16 MB of feature activations stood, and the next ones
    would find no place but a new one: 13 GB at 65,536 features.
    """

    def __init__(self):
        self.columns = [np.empty(FIRST, dtype) for dtype in (np.int32, np.int32, np.float32)]  # token, feature, activation
        self.n = 0

    def add(self, token: np.ndarray, feature: np.ndarray, act: np.ndarray) -> None:
        """Some more entries: their token, feature and activation, arrays of one length."""
        n = self.n + len(act)
        while n > len(self.columns[0]):
            for i, column in enumerate(self.columns):  # one after the other, and room that is not filled yet takes no memory
                self.columns[i] = np.empty(2 * len(column), column.dtype)
                self.columns[i][: self.n] = column[: self.n]
        for column, values in zip(self.columns, (token, feature, act), strict=True):
            column[self.n : n] = values
        self.n = n

    def by_token(self, n_tokens: int, n_features: int, is_sorted: bool = True) -> sparse.csr_array:
        """(n_tokens, n_features); the arrays' own memory where tokens were added in their order."""
        token, feature, act = self.filled()
        if not is_sorted:
            return sparse.csr_array(sparse.coo_array((act, (token, feature)), shape=(n_tokens, n_features)))
        ends = np.append(0, np.cumsum(np.bincount(token, minlength=n_tokens)))
        return sparse.csr_array((act, feature, ends), shape=(n_tokens, n_features))

    def filled(self) -> list[np.ndarray]:
        """[token, feature, act], views of what was added so far."""
        return [column[: self.n] for column in self.columns]


class Pending:
    """Active entries of some rows, not summarized yet. Tokens are numbered in the order in which the rows were read."""

    def __init__(self, names: list[str]):
        self.rows: list[tuple[int, int, bool, bool, int]] = []  # number, hash, is it new, does it keep its peaks, tokens
        self.entries = {name: Entries() for name in names}
        self.n_tokens = 0

    @property
    def n_entries(self) -> int:
        """Of all SAEs together."""
        return sum(entries.n for entries in self.entries.values())

    def read(self, head: Head, saes: Mapping[str, Dictionary], rows: list[list[int]]) -> int:
        """Encode rows; the number of tokens encoded, all but start tokens."""
        tokens, is_text = as_batch(head.model, [led(head.model, row) for row in rows])
        number = np.arange(self.n_tokens, self.n_tokens + int(is_text.sum()))
        self.n_tokens += len(number)
        for hook_name, acts in head(tokens).items():
            x = acts[is_text]
            check_finite(x, hook_name)
            for name, sae in saes.items():
                if sae.reads == hook_name:
                    self._encode(name, sae, x, number)
        return len(number)

    def _encode(self, name: str, sae: Dictionary, x: Activations, number: np.ndarray) -> None:
        n = max(FEWEST_ROWS, ELEMENTS.get(x.device.type, 2**22) // sae.cfg.d_sae)
        for first in range(0, max(len(x), 1), n):
            token, feature, act = active(sae.encode(x[first : first + n].to(sae.W_enc.dtype)))
            self.entries[name].add(number[first + token], feature, act)

    def run(self) -> Run:
        """The rows that were read, as `summarize` takes them."""
        numbers, hashes, is_new, keeps_peaks, lengths = (np.array(column) for column in zip(*self.rows, strict=True))
        return Run(np.append(0, np.cumsum(lengths)), numbers.astype(np.int64), hashes.astype(np.uint64), is_new, keeps_peaks)

    def by_feature(self, name: str, d_sae: int) -> sparse.csc_matrix:
        """(tokens, d_sae); in each column the tokens ascend."""
        return sparse.csc_matrix(self.entries.pop(name).by_token(self.n_tokens, d_sae))


def active(feature_acts: FeatureActs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, feature, activation) of the entries above 0, row by row. numpy finds them 4 times as fast as torch does on a CPU."""
    is_active, is_here = feature_acts > 0, feature_acts.device.type == "cpu"
    flat = torch.from_numpy(np.flatnonzero(is_active.numpy())) if is_here else is_active.flatten().nonzero()[:, 0]
    act = feature_acts.flatten()[flat]
    return *np.divmod(flat.cpu().numpy(), feature_acts.shape[1]), act.float().cpu().numpy()


class Parts:
    """A shard's summaries in several folders, merged as soon as they are many."""

    def __init__(self, out: Path, saes: Mapping[str, Dictionary]):
        self.out, self.d_sae = out, {name: sae.cfg.d_sae for name, sae in saes.items()}
        self.folders: list[Path] = []
        self.n_made = 0

    def add(self, pending: Pending) -> None:
        """Summarize what is pending and write it, a summary for each range of features; many parts become one."""
        if not pending.n_tokens:
            return
        run, folder = pending.run(), self._new()
        for name, d_sae in self.d_sae.items():
            acts = pending.by_feature(name, d_sae)
            Summaries.write(folder, name, (summarize(acts, run, first, n) for first, n in ranges(d_sae)))
        self.folders.append(folder)
        if len(self.folders) == MOST_PARTS:
            self.folders = [self._merged(self._new())]

    def merge_all(self) -> None:
        """One set of files, in the shard's own folder."""
        if self.folders:
            self._merged(self.out)

    def _new(self) -> Path:
        folder = self.out / f"part-{self.n_made}"
        folder.mkdir()
        self.n_made += 1
        return folder

    def _merged(self, into: Path) -> Path:
        for name, d_sae in self.d_sae.items():
            parts = [Summaries(folder, name) for folder in self.folders]
            Summaries.write(into, name, (merge([part.read(n) for part in parts]) for n in range(len(ranges(d_sae)))))
        for folder in self.folders:
            shutil.rmtree(folder)
        return into
