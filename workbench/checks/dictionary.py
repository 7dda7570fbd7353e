"""Does an SAE or a transcoder fit the model, and does it read it as it was trained to?

What an SAE of another model explains here, or of another place, or one whose training scaled, centered or shifted activations in a way that
its files do not say, is little, and often x_hat is further off than the mean of x would be (fvu above 1). Other readings are tried on a few
tokens, and one that is far better is named.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from workbench.activations.rows import as_batch, led
from workbench.checks.report import Finding, Verdict
from workbench.checks.subject import Subject
from workbench.model.head import Head
from workbench.model.points import point
from workbench.model.start import sae_note
from workbench.sae.dictionary import Dictionary
from workbench.sae.evaluate import evaluate
from workbench.sae.evaluation import Evaluation
from workbench.sae.sae import SAE

N_TRIED = 256  # tokens on which other readings are tried
SCALES = [2.0 ** (k / 2) for k in range(-12, 13) if k]
POOR, USELESS = 0.5, 1.0  # fvu from which one is told; from which the mean would serve better
LESS, FAR_LESS = (1.5, 0.02), (3.0, 0.1)  # fvu beyond what was promised: so many times, and so much more
FAR_L0 = 3.0  # times what was promised, or a part of it
FAR_BETTER = 0.5, 0.02  # another reading is named where its fvu is such a part and by so much smaller


def explains(subject: Subject, sae: Dictionary) -> Finding:
    """fvu, l0, loss recovered and features that stay silent, beside what the SAE's files promise."""
    promised, found = promises(sae), evaluate(subject.model, sae, subject.text.texts, progress=False)
    figure = _figures(found, promised)
    wrong = [*_complaints(found, promised), *(_instead(subject, sae) if isinstance(sae, SAE) else ())]
    wrong += [f"{note[0].upper()}{note[1:]}."] if (note := sae_note(subject.model, sae)) else []
    assumed = [f"Assumed from its name: {sae.cfg.metadata['assumed']}."] if "assumed" in sae.cfg.metadata else []
    if wrong:
        return Finding(Verdict.warning, figure, " ".join([*wrong, *assumed]))
    where = f"on {subject.text.what}"
    if _is_beyond(found.fvu, promised, LESS):
        meaning = f"It explains less {where} than its files promise: are these the texts that it was trained for?"
        return Finding(Verdict.note, figure, " ".join([meaning, *assumed]))
    if found.fvu >= POOR:
        meaning = f"It explains less than {1 - POOR:.0%} of the variance {where}: what it leaves out is not ranked."
        return Finding(Verdict.note, figure, " ".join([meaning, *assumed]))
    meaning = f"It reads this model {where}{', as its files promise' if promised else ''}" + (
        "; no other scale, centering or place suits it better." if isinstance(sae, SAE) else "."
    )
    return Finding(Verdict.note if assumed else Verdict.ok, figure, " ".join([meaning, *assumed]))


def promises(sae: Dictionary) -> dict[str, float]:
    """What its training measured, where its files keep that."""
    known = {name: sae.cfg.metadata.get(name) for name in ("fvu", "l0")}
    return {name: float(value) for name, value in known.items() if isinstance(value, int | float) and math.isfinite(value)}


def _figures(found: Evaluation, promised: dict[str, float]) -> str:
    words = {name: f" (promised {value:.3g})" for name, value in promised.items()}
    losses, parts = found.losses, [f"fvu {found.fvu:.3f}{words.get('fvu', '')}", f"l0 {found.l0:.1f}{words.get('l0', '')}"]
    if losses.n_tokens:
        parts.append(f"loss {losses.clean:.3f}, with x_hat {losses.spliced:.3f} ({losses.recovered:.0%} recovered)")
    return ", ".join([*parts, f"{found.dead:.0%} of features silent on {found.n_tokens:,} tokens"])


def _is_beyond(fvu: float, promised: dict[str, float], limits: tuple[float, float]) -> bool:
    times, more = limits
    return "fvu" in promised and fvu > max(times * promised["fvu"], promised["fvu"] + more)


def _complaints(found: Evaluation, promised: dict[str, float]) -> Iterator[str]:
    if found.l0 == 0:
        yield "No feature is active on any token: it is not of this model, place or scale."
        return
    if not found.fvu < USELESS:
        yield "What it makes of x is further off than the mean would be: it is not of this model, place or scale."
    elif _is_beyond(found.fvu, promised, FAR_LESS):
        yield "It explains far less than its files promise: other texts than it was trained for, or another model, place or scale."
    if "l0" in promised and not promised["l0"] / FAR_L0 <= found.l0 <= promised["l0"] * FAR_L0:
        yield f"Far {'more' if found.l0 > promised['l0'] else 'fewer'} features are active than its files promise."
    if found.losses.recovered < 0:
        yield "With x_hat in its place the model predicts worse than with zeros."


def _instead(subject: Subject, sae: SAE) -> Iterator[str]:
    """The reading that is far better, if there is one."""
    tried = dict(readings(subject, sae))
    here = tried.pop("")
    words = min((words for words, fvu in tried.items() if math.isfinite(fvu)), key=tried.__getitem__, default="")
    share, by = FAR_BETTER
    if words and tried[words] < min(share * here, here - by):
        yield f"{words} its fvu is {tried[words]:.3f}, not {here:.3f}: if it was trained so, say that to SAE.load."


@torch.no_grad()
def readings(subject: Subject, sae: SAE) -> Iterator[tuple[str, float]]:
    """(how it is read, fvu on some tokens): "" as it is, other scales, centered or not, other places of the same width."""
    model, here = subject.model, sae.cfg.hook_name
    places = [f"blocks.{k}.{end}" for k in range(model.cfg.n_layers) for end in ("hook_resid_pre", "hook_resid_post")]
    names = [name for name in places if name in model.hook_dict and point(model, name).width == sae.cfg.d_in]
    caught = _some(Head(model, [here, *names]), subject)
    yield "", fvu_of(sae, caught[here])
    yield from ((f"Read with scale={scale:.2g} (times any that its files say)", fvu_of(sae, caught[here], scale)) for scale in SCALES)
    centers = not sae.cfg.centers_input
    other = SAE(replace(sae.cfg, centers_input=centers)).to(sae.W_dec)
    other.load_state_dict(sae.state_dict())
    yield f"Read with centers_input={centers}", fvu_of(other, caught[here])
    yield from ((f'Read at hook_name="{name}"', fvu_of(sae, caught[name])) for name in names if name != here)


def _some(head: Head, subject: Subject) -> dict[str, Tensor]:
    """Activations of the first N_TRIED tokens of the text, start tokens left out."""
    rows, n = [], 0
    for row in subject.text.rows:
        if n < N_TRIED:
            rows.append(led(subject.model, row))
            n += len(row)
    tokens, is_text = as_batch(subject.model, rows)
    return {name: found[is_text].float() for name, found in head(tokens).items()}


@torch.no_grad()
def fvu_of(sae: SAE, x: Tensor, scale: float = 1.0) -> float:
    """Of the SAE as one that was trained on scale · x. Of an SAE that centers x, of what is left of it then."""
    target = sae.centered(x)
    error = target - sae((scale * x).to(sae.W_dec.dtype)) / scale
    return error.double().square().sum().item() / (target - target.mean(0)).double().square().sum().item()
