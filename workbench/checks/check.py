"""Check a model before anything is asked of it: is it read rightly here, are effects what they are defined to be, does an SAE fit?

    report = check("path/to/model", sae="path/to/sae", texts="corpus.jsonl")
    report.verdict, report.table, report.to_html("check.html")

Each check is measured on this model, on a few texts; one that fails is a row like the others, and the next ones go on.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from workbench.activations.texts import Source, read_texts
from workbench.bench import Workbench
from workbench.benches import BENCHES
from workbench.checks import dictionary, effects, passes, reading
from workbench.checks.report import CheckReport, Finding, Verdict
from workbench.checks.subject import Subject, subject
from workbench.model.hooks import check_dictionary
from workbench.model.model import BAR_DELAY, load_model
from workbench.model.points import point
from workbench.sae.dictionary import Dictionary
from workbench.sae.transcoder import load_dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TEXTS = 1000  # of those given, at most
CHECKS: Mapping[str, Callable[[Subject], Finding]] = {  # in the order in which a person would ask
    "model": reading.model_loads,
    "text": reading.loss_on_text,
    "unknown tokens": reading.unknown_tokens,
    "start token": reading.start_of_text,
    "hook points": passes.hook_points,
    "KV cache": passes.cache,
    "precision": passes.precision,
    "effects": effects.effects,
    "speed": effects.speed,
}
SAE_FITS, SAE_EXPLAINS = "SAE fits", "SAE explains"
FIRST = "model"


def check(
    model: Any,
    sae: Dictionary | str | Path | None = None,
    texts: Source | None = None,
    *,
    device: str | torch.device | None = None,
    start_token: str | None | EllipsisType = ...,
    seconds: float = 1.0,
    progress: bool = True,
) -> CheckReport:
    """One table of what holds for this model here, each row with a verdict, a figure and what it means. Under a minute for a small model.

    model        a hub name, a folder, "atlas", a Workbench, a TransformerBridge or a Hugging Face model object
    sae          an SAE or a transcoder, or its folder; of a Workbench and of the atlas, by default their own
    texts        of the model's own kind, whatever `read_texts` reads; by default a small English text, or one that the model writes
    start_token  what leads every text, as for load_model: a model object keeps it afterwards
    seconds      to time ablations for; 0 leaves the timing out

    Whatever is wrong with model or SAE is a row of the table. Raises ValueError for texts that cannot be read.
    """
    given = None if texts is None else list(islice(read_texts(texts), N_TEXTS))
    if given is not None and not any(text.strip() for text in given):
        raise ValueError("the texts hold no text: expected some that the model should know")
    name = _name(model if isinstance(model, str | Path) else getattr(model, "name", ""))
    report: list[tuple[str, Finding]] = []
    with tqdm(total=len(CHECKS) + 2, desc="checking", unit="check", disable=not progress, delay=BAR_DELAY) as bar:

        def done(check: str, found: Finding) -> None:
            report.append((check, found))
            bar.update()

        try:
            bridge, own = _loaded(model, sae, device, start_token)
        except Exception as error:
            done(FIRST, failed(error, "It cannot be loaded"))
            return CheckReport.of(report, name)
        name = name or _name(bridge.cfg.model_name)
        fitting, fits = _fitting(bridge, own if own is not None else sae, device)
        try:
            about = subject(bridge, fitting, fitting.writes if fitting else middle(bridge), given, seconds)
        except Exception as error:
            done(FIRST, failed(error, "It cannot read a text"))
            return CheckReport.of(report, name)
        for check, measure in CHECKS.items():
            bar.set_postfix_str(check)
            done(check, attempted(measure, about))
        if fits is not None:
            done(SAE_FITS, fits)
        if fitting is not None:
            bar.set_postfix_str(SAE_EXPLAINS)
            done(SAE_EXPLAINS, attempted(partial(dictionary.explains, sae=fitting), about))
    return CheckReport.of(report, name)


def attempted(measure: Callable[[Subject], Finding], about: Subject) -> Finding:
    """What the check says; what it raises is said in a line."""
    try:
        return measure(about)
    except Exception as error:  # whatever an unknown architecture objects to: the other checks still say what they say
        return failed(error, "This could not be measured")


def failed(error: Exception, what: str) -> Finding:
    """An error as a row, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no word of why"]
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return Finding(Verdict.error, "", f"{what}: {kind}{' '.join(lines)[:400]}")


def middle(model: "TransformerBridge") -> str:
    """The first hook point in the middle of the model that holds an activation a token."""
    k = model.cfg.n_layers // 2
    names = [f"blocks.{k}.{end}" for end in (*passes.RESIDUAL, *passes.OTHERS)]
    return next((name for name in names if name in model.hook_dict and point(model, name).width is not None), names[0])


def _name(model: str | Path) -> str:
    """A hub name as it is; of a folder its own name: where it lies is nobody's affair who reads the page."""
    return Path(model).resolve().name if str(model) and Path(model).is_dir() else str(model)


def _loaded(model: Any, sae: Any, device: Any, start_token: str | None | EllipsisType) -> tuple["TransformerBridge", Dictionary | None]:
    """(the model, the SAE that is asked for where it comes with the model)"""
    if isinstance(model, str) and model in BENCHES:
        bench = BENCHES[model](None, device or "cpu", start_token)
        return bench.model, bench.sae if sae is None else bench.saes.get(sae) if isinstance(sae, str) else None
    if isinstance(model, Workbench):
        known = model.sae if sae is None else model.saes.get(sae) if isinstance(sae, str) else None
        return load_model(model.model, device=device, start_token=start_token), known
    return load_model(model, device=device, start_token=start_token), None


def _fitting(model: "TransformerBridge", sae: Dictionary | str | Path | None, device: Any) -> tuple[Dictionary | None, Finding | None]:
    """(the SAE if it fits, what is said of that; None where there is none)"""
    if sae is None:
        return None, None
    try:
        found = load_dictionary(sae, device or model.cfg.device or "cpu") if isinstance(sae, str | Path) else sae
        check_dictionary(model, found)
    except Exception as error:
        return None, failed(error, "It cannot be read on this model")
    cfg = found.cfg
    where = f"at {found.reads}, width {cfg.d_in}" if found.reads == found.writes else f"{found.reads} → {found.writes}, a transcoder"
    figure = f"{cfg.d_sae:,} features ({cfg.architecture}) {where}"
    return found, Finding(Verdict.ok, figure, "The hook point is there, has this width and is no other model's by name; no weight is NaN.")
