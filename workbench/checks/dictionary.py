"""Does an SAE fit the model, and does it read it as it was trained to?

What an SAE of another model explains here, or of another place, or one whose training scaled, centered or shifted activations in a way that
its files do not say, is little, and often more is wrong with x_hat than with the mean of x in its place (fvu above 1). Where it explains
little, the readings that are usually meant are tried, and the one that is far better is named.
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
from workbench.sae.evaluate import evaluate
from workbench.sae.sae import SAE

N_TRIED = 512  # tokens on which other readings are tried
SCALES = [2.0 ** (k / 2) for k in range(-12, 13) if k]
POOR, USELESS = 0.5, 1.0  # fvu from which one is told; from which the mean of x would serve better
MUCH_MORE, MORE = 3.0, 0.1  # fvu beyond what was promised: so many times and so much more
FAR_L0 = 3.0  # times what was promised, or a part of it
FAR_BETTER = 0.5  # of the fvu: another reading is named


def explains(subject: Subject, sae: SAE) -> Finding:
    """fvu, l0, loss recovered and features that stay silent, beside what the SAE's files promise."""
    promised = promises(sae)
    found = evaluate(subject.model, sae, subject.text.texts, progress=False)
    losses = found.losses
    parts = [f"fvu {found.fvu:.3f}", f"l0 {found.l0:.1f}"]
    for i, name in enumerate(("fvu", "l0")):
        if name in promised:
            parts[i] += f" (promised {promised[name]:.3g})"
    parts += [f"loss {losses.clean:.3f} → {losses.spliced:.3f} ({losses.recovered:.0%} recovered)"] if losses.n_tokens else []
    parts += [f"silent {found.dead:.0%} on {found.n_tokens:,} tokens"]
    wrong = list(_complaints(found.fvu, found.l0, losses.recovered, promised))
    note = sae_note(subject.model, sae)
    meaning = " ".join([*wrong, *_instead(subject, sae, found.fvu)] if wrong else [])
    assumed = f" Assumed from its name: {sae.cfg.metadata['assumed']}." if "assumed" in sae.cfg.metadata else ""
    started = f" {note[0].upper()}{note[1:]}." if note else ""
    if wrong or note:
        return Finding(Verdict.warning, ", ".join(parts), f"{meaning}{started}{assumed}".strip())
    if found.fvu >= POOR:
        meaning = f"It explains less than {1 - POOR:.0%} of the variance on {subject.text.what}: what it leaves out is not ranked.{assumed}"
        return Finding(Verdict.note, ", ".join(parts), meaning)
    said = f"It reads this model on {subject.text.what}" + (" as its files promise." if promised else ".")
    return Finding(Verdict.ok, ", ".join(parts), said + assumed)


def promises(sae: SAE) -> dict[str, float]:
    """What its training measured, where its files keep that."""
    known = {name: sae.cfg.metadata.get(name) for name in ("fvu", "l0")}
    return {name: float(value) for name, value in known.items() if isinstance(value, int | float) and math.isfinite(value)}


def _complaints(fvu: float, l0: float, recovered: float, promised: dict[str, float]) -> Iterator[str]:
    if l0 == 0:
        yield "No feature is active on any token."
        return
    if not fvu < USELESS:
        yield "What it makes of x is further off than the mean of x: it is not of this model, place or scale."
    elif "fvu" in promised and fvu > max(MUCH_MORE * promised["fvu"], promised["fvu"] + MORE):
        yield "It explains far less than its files promise: other texts than it was trained on, or another model, place or scale."
    if "l0" in promised and not promised["l0"] / FAR_L0 <= l0 <= promised["l0"] * FAR_L0:
        yield f"{'More' if l0 > promised['l0'] else 'Fewer'} features are active than its files promise."
    if recovered < 0:
        yield "With x_hat in its place the model predicts worse than with zeros."


def _instead(subject: Subject, sae: SAE, fvu: float) -> Iterator[str]:
    """The reading that is far better, if there is one; else nothing is said but that none was found."""
    found = {words: other for words, other in readings(subject, sae) if math.isfinite(other)}
    best = min(found, key=found.__getitem__, default=None)
    if best is not None and found[best] < FAR_BETTER * min(fvu, USELESS):
        yield f"Read with {best} its fvu is {found[best]:.3f}: SAE.load(…, {best}) says so."
    else:
        yield "No other scale, centering or place in the residual stream makes it much better."


@torch.no_grad()
def readings(subject: Subject, sae: SAE) -> Iterator[tuple[str, float]]:
    """(as SAE.load would be told, fvu on some tokens): other scales, centered or not, other places of the same width."""
    model = subject.model
    places = [f"blocks.{k}.{end}" for k in range(model.cfg.n_layers) for end in ("hook_resid_pre", "hook_resid_post")]
    names = [name for name in places if name in model.hook_dict and point(model, name).width == sae.cfg.d_in]
    here = sae.cfg.hook_name
    caught = _some(Head(model, [here, *names]), subject)
    for scale in SCALES:
        yield f"scale={scale:.2g}", fvu_of(sae, caught[here], scale)
    other = SAE(replace(sae.cfg, centers_input=not sae.cfg.centers_input))
    other.load_state_dict(sae.state_dict())
    yield f"centers_input={other.cfg.centers_input}", fvu_of(other.to(sae.W_dec), caught[here])
    yield from ((f'hook_name="{name}"', fvu_of(sae, caught[name])) for name in names if name != here)


def _some(head: Head, subject: Subject) -> dict[str, Tensor]:
    """Activations of the first N_TRIED tokens of the text, start tokens left out."""
    rows, n = [], 0
    for row in subject.text.rows:
        if n < N_TRIED:
            rows.append(led(subject.model, row))
            n += len(row)
    tokens, is_text = as_batch(subject.model, rows)
    return {name: found[is_text].float() for name, found in head(tokens).items()}


def fvu_of(sae: SAE, x: Tensor, scale: float = 1.0) -> float:
    """Of the SAE as one that was trained on scale · x. Of an SAE that centers x, of what is left of it then."""
    target = x - x.mean(-1, keepdim=True) if sae.cfg.centers_input else x
    error = target - sae(scale * x) / scale
    return float(error.double().square().sum() / (target - target.mean(0)).double().square().sum())
