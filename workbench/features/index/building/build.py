"""Building an index: shards of texts are read, one after the other or side by side, then finished. What is done is not done again."""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from workbench.activations.rows import LONGEST_ROW
from workbench.activations.texts import read_texts
from workbench.features.index.building.collect import ELEMENTS, FEWEST_ROWS, MOST, collect
from workbench.features.index.building.finish import finish
from workbench.features.index.building.logits import N_COLUMNS
from workbench.features.index.building.shards import Corpus, Shard, differences, identity, shard_facts
from workbench.features.index.layout import RANGE
from workbench.features.index.manifest import MANIFEST, UNFINISHED, read_manifest
from workbench.files import clear_partials, locked, made_folder, read_json, write_json
from workbench.model.head import Head
from workbench.model.hooks import check_dictionary
from workbench.model.memory import Need, in_words, largest, pass_bytes
from workbench.sae.dictionary import Dictionary
from workbench.sae.neighborhoods import N_ROWS

LESS = "a smaller shard= or fewer workers take less"
ENTRY_BYTES, CHAR_BYTES = 20, 16  # of an active entry, a copy by features included; of a character of text: with its tokens, rows, hashes

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@in_words("building the index", LESS)
def build(  # noqa: PLR0913 as build_index
    model: "TransformerBridge",
    saes: Mapping[str, Dictionary],
    texts: str | Path | Iterable[str],
    folder: Path,
    n_chars: int,
    workers: int,
    progress: bool,
    insist: bool = False,
) -> None:
    """Write the index of `texts` to `folder`, or what is missing of it."""
    _check(model, saes, n_chars)
    need_of(model.cfg, saes, n_chars, max(1, workers)).check(torch.device(str(model.cfg.device)), insist, progress)
    with locked(made_folder(folder)):
        built_of = identity(model, saes, n_chars)
        known = _claim(folder, built_of)
        corpus, shards = Corpus(read_texts(texts) if isinstance(texts, str | Path) else texts, n_chars), folder / "shards"
        bar = tqdm(desc="feature index", unit="token", unit_scale=True, disable=not progress)
        todo = (shard for shard in corpus if not known and not _is_done(shards, shard))
        if workers:
            from workbench.features.index.building.workers import collect_beside

            collect_beside(model, saes, todo, shards, workers, bar.update)
        else:
            head = Head(model, [sae.reads for sae in saes.values()])
            for shard in todo:
                collect(head, saes, shard, shards, bar.update)
        bar.close()
        if known and known["corpus"] != corpus.facts:
            raise _taken(folder, differences(corpus.facts, known["corpus"], "corpus "))
        if not known:
            finish(model, saes, folder, {**built_of, "corpus": corpus.facts}, progress)
        shutil.rmtree(shards, ignore_errors=True)
        (folder / UNFINISHED).unlink(missing_ok=True)
        clear_partials(folder)  # of a build that was killed while it wrote


def need_of(cfg: Any, saes: Mapping[str, Dictionary], n_chars: int, n_workers: int) -> Need:
    """What building takes, however many texts there are: every worker's batch, feature activations, entries and texts; then the decoder's
    cosines with some of its rows."""
    widest, d_sae = max(saes.values(), key=lambda sae: sae.W_dec.numel()), max(sae.cfg.d_sae for sae in saes.values())
    longest = min(cfg.n_ctx, LONGEST_ROW)
    reading = {
        "passes of the model": pass_bytes(cfg, longest, 2),
        "feature activations": 2 * 4 * max(ELEMENTS["cpu"], FEWEST_ROWS * d_sae),
        "active entries": ENTRY_BYTES * MOST,
        "texts": CHAR_BYTES * n_chars,
    }
    finishing = {
        "decoder": 4 * widest.W_dec.numel(),
        "cosines": 4 * N_ROWS * d_sae,
        "tokens promoted": 3 * 4 * RANGE * min(N_COLUMNS, cfg.d_vocab),
    }
    return largest("building the index", [{name: n_workers * n for name, n in reading.items()}, finishing], LESS)


def _check(model: "TransformerBridge", saes: Mapping[str, Dictionary], n_chars: int) -> None:
    if not saes:
        raise ValueError("no SAE is given: build_index(model, sae, texts, folder)")
    for name, sae in saes.items():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"{name!r} cannot be a part of file names: name SAEs with letters, digits, '-', '_' and '.'")
        check_dictionary(model, sae)
    if n_chars < 1:
        raise ValueError(f"shard={n_chars} holds no text; expected a number of characters")


def _claim(folder: Path, built_of: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an index that is finished, else {}. Raises ValueError for a folder of something else."""
    for name in (MANIFEST, UNFINISHED):
        if (folder / name).is_file():
            known = read_json(folder / name)
            if not isinstance(known, dict):
                raise ValueError(f"{folder / name} is damaged: delete {folder}, and build the index anew")
            different = differences(built_of, {key: known.get(key) for key in built_of})
            if different:
                raise _taken(folder, different)
            return read_manifest(folder) if name == MANIFEST else {}
    others = [path.name for path in folder.iterdir() if path.suffix != ".partial"]
    if others:
        raise ValueError(f"{folder} is not empty and no index (found: {', '.join(sorted(others)[:5])}); give a new folder")
    write_json(folder / UNFINISHED, built_of)
    return {}


def _is_done(shards: Path, shard: Shard) -> bool:
    if not (shards / shard.name / "shard.json").is_file():
        return False
    known = shard_facts(shards / shard.name)["fingerprint"]
    if known != shard.fingerprint:
        raise _taken(shards.parent, [f"shard {shard.number} texts are {shard.fingerprint}, there {known}"])
    return True


def _taken(folder: Path, different: list[str]) -> ValueError:
    return ValueError(f"{folder} is an index of something else: here {'; '.join(different)}. Give another folder, or delete this one")
