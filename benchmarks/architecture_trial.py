"""One architecture: a tiny random checkpoint, read by `load_model` from its folder, beside the passes of plain_passes.py."""

import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from plain_passes import HOOK_NAMES, Plain, answer_difference, edit_at, module_of
from tiny_configs import D_MODEL, NO_CHECKPOINT, OTHER_NAMES, checkpoint, checkpoint_with_code, without_vision_tower

LIMIT = 1e-4
D_SAE, N_TOKENS, N_PAIRS, N_NEW = 64, 11, 40, 6


@dataclass
class Trial:
    """What one architecture gave."""

    verdict: str = "fault"  # exact | refused | fault | not made
    way: str = ""
    words: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    heads: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        figures = "  ".join(f"{name} {value:.0e}" for name, value in self.figures.items())
        return f"{self.verdict:<9} {self.way:<8} {self.seconds:4.0f} s  {figures}  {self.heads}  {self.words}".rstrip()


def trial(architecture: str, variant: str) -> Trial:
    """Make, load and compare one architecture."""
    import transformers

    if architecture in NO_CHECKPOINT:
        return Trial("not made", words="TransformerLens's name for a model of its own: no checkpoint has it")
    found, start = Trial(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, without_vision_tower(architecture):
        hf_model = None
        try:
            if hasattr(transformers, OTHER_NAMES.get(architecture, architecture)):
                hf_model = checkpoint(architecture, variant, folder)
            else:
                checkpoint_with_code(architecture, folder)
        except Exception as error:
            return Trial("not made", words=_words(error))
        try:
            compare(hf_model, folder, found)
        except ValueError as error:
            found.verdict, found.words = "refused", _words(error).replace(folder, "FOLDER")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            found.words = f"{_words(error)} ({Path(place.filename).name}:{place.lineno})"
    found.seconds = time.process_time() - start
    return found


def beside_others(model: Any, sae: Any, tokens: torch.Tensor, metric: Any) -> float:
    """What this prompt gets among three that are measured together, beside what it gets alone; nan where they are not."""
    from workbench.circuits.metrics import EachMetric, logit_diff, resolve
    from workbench.circuits.ranking.ablation import ablate
    from workbench.circuits.ranking.attribution import attribute, attribute_each
    from workbench.circuits.ranking.together import _is_apart
    from workbench.replay.replay import Replay

    others = [torch.cat([tokens[:, :1], torch.randint(2, 200, (1, N_TOKENS))], dim=1) for _ in range(2)]
    metrics, whose = [logit_diff(9), metric, logit_diff(3, 4)], 1
    three = torch.cat([others[0], tokens, others[1]])
    found, alone = attribute_each(model, sae, three, metrics)[whose], attribute(model, sae, tokens, metric)
    if not _is_apart(model, three, attribute_each(model, sae, three, metrics)[0].logits):
        return float("nan")
    largest = _share(found.gradient, alone.gradient)
    replay = Replay(model, sae.cfg.hook_name, three)
    if replay.way != "prefix":
        return largest
    pairs = alone.pairs[:N_PAIRS]
    x = replay.of_each[whose, pairs[:, 0]] - alone.acts[:N_PAIRS, None] * sae.W_dec[pairs[:, 1]]
    each, prompt = EachMetric([resolve(model, one) for one in metrics]), torch.full((len(pairs) + 1,), whose)
    pos, x = torch.cat([pairs[:1, 0], pairs[:, 0]]), torch.cat([replay.of_each[whose, pairs[:1, 0]], x])
    values = each.difference(replay.logits(pos, x, each.columns, prompt=prompt), prompt)
    return max(largest, _share(values[0] - values[1:], ablate(model, sae, tokens, metric, pairs, progress=False)))


def compare(hf_model: Any, folder: str, found: Trial) -> None:
    from workbench.bench import Workbench
    from workbench.circuits.intervene import clamp
    from workbench.circuits.metrics import logit_diff
    from workbench.circuits.ranking.ablation import ablate
    from workbench.circuits.ranking.attribution import attribute
    from workbench.circuits.steering.generation import Decoding, generate, read
    from workbench.model.head import Head
    from workbench.model.hooks import check_sae, last_logits
    from workbench.model.model import load_model
    from workbench.model.points import point
    from workbench.replay.replay import Replay
    from workbench.sae.sae import SAE, SAEConfig

    model = load_model(folder)
    assert hf_model is not None, "a folder with code of its own was loaded"
    if type(hf_model) is not type(model.original_model):  # BloomModel: the class of its checkpoints that have a head
        kind: Any = type(model.original_model)
        hf_model = kind.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)
    torch.manual_seed(1)
    tokens = torch.cat([torch.zeros(1, 1, dtype=torch.long), torch.randint(2, 200, (1, N_TOKENS))], dim=1)
    hook_name = next((name for name in HOOK_NAMES if name in model.hook_dict and point(model, name).width), HOOK_NAMES[0])
    sae = SAE(SAEConfig(D_MODEL, D_SAE, hook_name))
    check_sae(model, sae)
    plain = Plain(hf_model, *module_of(model, hf_model, hook_name))
    x, clean = plain.run(tokens)
    scale = x.norm(dim=-1).median() / D_MODEL**0.5
    for parameter in sae.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    sae.W_dec.data *= scale
    sae.W_enc.data /= scale
    sae.requires_grad_(False)
    found.figures["logits"] = _share(last_logits(model, tokens), clean[:, -1])

    metric = logit_diff(5, 7)
    replay = Replay(model, hook_name, tokens)
    found.way, found.words = replay.way, replay.why_not
    acts = sae.encode(x[0])
    pairs = acts.nonzero()
    pairs = pairs[torch.randperm(len(pairs))[:N_PAIRS]]
    expected = torch.stack(
        [answer_difference(clean) - answer_difference(plain.run(tokens, edit_at(sae, int(p), {int(f): 0.0}))[1]) for p, f in pairs]
    )
    found.figures["rank"] = _share(ablate(model, sae, tokens, metric, pairs, progress=False), expected)
    attribution = attribute(model, sae, tokens, metric)
    found.figures["attribution"] = _share(attribution.gradient, plain.gradient(tokens))
    found.figures["together"] = beside_others(model, sae, tokens, metric)

    bench, feature, value = Workbench(model=model, sae=sae), int(pairs[0, 1]), 3.0
    worst = largest = 0.0
    for pos in (0, 3, None):
        _, edited = plain.run(tokens, edit_at(sae, pos, {feature: value}))
        with clamp(bench, {feature: value}, pos=pos):
            whole, last = model(tokens), last_logits(model, tokens)
        largest = max(largest, float((edited - clean).abs().max()))
        worst = max(worst, float((whole - edited).abs().max()), float((last - edited[:, -1]).abs().max()))
    found.figures["clamp"] = worst / max(largest, 1e-12)

    rows = torch.randint(2, 200, (3, N_TOKENS))
    head = Head(model, [hook_name])
    x_rows, _ = plain.run(rows)
    found.figures["stream"] = float((head(rows)[hook_name] - x_rows).norm(dim=-1).max() / x_rows.norm(dim=-1).median())
    found.words = found.words or (f"stream by {head.way}: {head.why_not}" if head.way == "bridge" else "")

    written = {}
    for use_cache in (True, False):
        with clamp(bench, {feature: value}):
            written[use_cache] = generate(model, tokens, Decoding(N_NEW, progress=False), use_cache=use_cache)
    ours = torch.cat([tokens, written[False].tokens], dim=1)
    _, edited = plain.run(ours, edit_at(sae, None, {feature: value}))
    greedy = edited[:, N_TOKENS:-1].argmax(-1)
    is_text = written[False].is_text
    found.figures["steer"] = float((written[False].tokens != greedy)[is_text].sum() + (written[True].tokens != written[False].tokens).sum())
    expected = plain.run(ours)[1].log_softmax(-1)[:, N_TOKENS:-1].gather(-1, ours[:, N_TOKENS + 1 :, None])[..., 0]
    found.figures["read"] = _share(read(model, sae, ours, N_TOKENS + 1, [feature]).log_probs, expected)
    found.heads, are_heads_right = heads_of(bench, tokens, pairs)
    is_exact = are_heads_right and all(value <= LIMIT for value in found.figures.values())
    found.verdict = "exact" if is_exact else "fault"


def heads_of(bench: Any, tokens: torch.Tensor, pairs: torch.Tensor) -> tuple[str, bool]:
    """(words, is it right): attention edits are obeyed, so that some head moves the effect, or refused in words."""
    from workbench.circuits.depth.heads import head_effects
    from workbench.circuits.metrics import logit_diff

    before = pairs[pairs[:, 0] < tokens.shape[1] - 1]  # nothing reads the last token from elsewhere: there no head can move anything
    prompt, feature = " ".join(f"w{i}" for i in tokens[0, 1:].tolist()), int(before[:, 1].mode().values)
    try:
        heads = head_effects(bench, prompt, logit_diff(5, 7), feature)
    except ValueError as error:
        return f"heads: {_words(error)[:60]}", True
    moved = float(heads.table["moved"].abs().max() / abs(heads.effect))
    return f"heads move {moved:.0e} of the effect", moved > LIMIT


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    return float(difference) if difference.isfinite() else float("inf")


def _words(error: Exception) -> str:
    return f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{' '.join(str(error).split())}"[:240]
