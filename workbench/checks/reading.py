"""What is loaded, and how it reads a text: vocabulary, start token, unknown tokens, loss."""

import math

from workbench.checks.report import Finding, Verdict
from workbench.checks.subject import DRAWN, YOURS, Subject, guessing, mean_loss
from workbench.model.start import end_token, n_embedded, start_token
from workbench.model.tokens import UNKNOWN_LINE

FAR, TOLD = 0.5, 0.1  # nats a token by which another start token is far better (perplexity 1.65 ×); by which one is told
FEW_TOKENS = 0.5  # share of the embedding's rows that a tokenizer of the model's own names at least; padding is a few hundred rows


def model_loads(subject: Subject) -> Finding:
    """Its sizes, and whether tokenizer and embedding are of one vocabulary."""
    model, cfg = subject.model, subject.model.cfg
    rows, n = n_embedded(model), len(model.tokenizer)
    dtype = str(next(model.original_model.parameters()).dtype).removeprefix("torch.")
    kind = type(getattr(getattr(model.tokenizer, "backend_tokenizer", None), "model", model.tokenizer)).__name__
    figure = f"{type(model.original_model).__name__}, {cfg.n_layers} layers × {cfg.d_model}, {dtype}; {kind} tokenizer, {n:,} tokens"
    beyond = sorted(token for token in model.tokenizer.get_vocab().values() if token >= rows)
    if beyond:
        names = ", ".join(map(repr, model.tokenizer.convert_ids_to_tokens(beyond[:3])))
        which = f"{len(beyond):,} of the tokenizer's tokens ({names}, …) have no row in the embedding, which has {rows:,}: texts with them"
        return Finding(Verdict.warning, figure, f"{which} are refused. Is it the model's own tokenizer?")
    if n < FEW_TOKENS * rows:
        meaning = f"The tokenizer names {n:,} of the embedding's {rows:,} rows. Is it the model's own?"
        return Finding(Verdict.warning, figure, meaning)
    return Finding(Verdict.ok, figure, f"It reads from left to right, up to {cfg.n_ctx:,} tokens. The embedding has {rows:,} rows.")


def unknown_tokens(subject: Subject) -> Finding:
    """The share of the text that the tokenizer has no token for."""
    n, whole, what = subject.n_unknown, subject.asked.n_tokens, subject.asked.what
    if not whole:
        return Finding(Verdict.warning, f"no token of {what}", "The tokenizer makes nothing of it. Give texts of the model's own kind.")
    figure = f"{n / whole:.1%} of {whole:,} tokens of {what}"
    if n == whole and what == YOURS:
        return Finding(Verdict.error, figure, "The tokenizer knows nothing of these texts: is it the model's own, and are they its kind?")
    if n >= UNKNOWN_LINE * whole and n:
        own = "Is the tokenizer the model's own?" if what == YOURS else "If the model should know English, is the tokenizer its own?"
        return Finding(Verdict.warning, figure, f"What is unknown is all one token to the model. {own} Texts of its kind say more.")
    return Finding(Verdict.ok, figure, "The tokenizer has a token for nearly everything in the text.")


def loss_on_text(subject: Subject) -> Finding:
    """Does the model know the text at all?"""
    asked, loss, guess = subject.asked, subject.loss, guessing(subject.model)
    if not asked.n_tokens:
        return Finding(Verdict.warning, "not measured", f"There is no token of {asked.what} to predict. Measured below: {DRAWN}.")
    if math.isnan(loss) and all(len(row) < 2 for row in asked.rows):
        return Finding(Verdict.note, "not measured", f"No text of {asked.what} has two tokens, so there is none to predict.")
    figure = f"{loss:.3f} nats a token (perplexity {perplexity(loss)}); guessing: {guess:.3f}"
    if not math.isfinite(loss):
        return Finding(Verdict.error, figure, "The model's logits are not numbers: damaged weights, or a type too narrow for them.")
    below = f" What follows is measured on {DRAWN}: give texts that it should know." if subject.text.what == DRAWN else ""
    if loss >= guess:
        meaning = f"It predicts {asked.what} no better than by guessing: untrained, another tokenizer's, or not of this kind."
        return Finding(Verdict.warning, figure, meaning + below)
    return Finding(Verdict.ok, figure, f"It predicts {asked.what} better than by guessing." + below)


def start_of_text(subject: Subject) -> Finding:
    """Is there a start token, or the lack of one, with which the model predicts far better?"""
    model, text, ours = subject.model, subject.text, start_token(subject.model)
    names = {"none" if not ids else repr(_named(model, ids)): ids for ids in _candidates(model)}
    losses = {name: mean_loss(model, text.rows, ids) for name, ids in names.items()}
    here = repr(ours.text) if ours.ids else "none"
    if not math.isfinite(losses[here]):
        return Finding(Verdict.note, here, f"Decided because: {ours.why}. Not compared with others, for want of a loss.")
    best = min((name for name in losses if math.isfinite(losses[name])), key=losses.__getitem__)
    by = losses[here] - losses[best]
    others = ", ".join(f"{name} {losses[name]:.3f}" for name in losses if name != here)
    figure = f"{here}: loss {losses[here]:.3f}; {others}" if others else f"{here}: loss {losses[here]:.3f}"
    why = f"Decided because: {ours.why}."
    if text.what == DRAWN:
        return Finding(
            Verdict.note, figure, f"{why} The model wrote this text after it, so it cannot tell: give texts= of the model's kind."
        )
    if by >= TOLD:
        typed = "None" if best == "none" else best
        said = f"With {best} the perplexity is {perplexity(losses[best])} instead of {perplexity(losses[here])}. {why}"
        if by >= FAR:
            return Finding(Verdict.warning, figure, f"{said} Load it with start_token={typed}, or every number here is of a model misread.")
        return Finding(Verdict.note, figure, f"{said} start_token={typed} when loading reads it so.")
    return Finding(Verdict.ok, figure, f"{why} No other choice predicts the text much better.")


def perplexity(loss: float) -> str:
    """e to the loss, in three digits."""
    value = math.exp(min(loss, 700.0))
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _candidates(model) -> list[tuple[int, ...]]:
    """What could lead a text: what does, nothing, and the tokens that the tokenizer calls its start, end, class and separator."""
    named = [end_token(model), *(getattr(model.tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "cls", "sep"))]
    known = [(token,) for token in named if token is not None and token < n_embedded(model)]
    return list(dict.fromkeys([start_token(model).ids, (), *known]))


def _named(model, ids: tuple[int, ...]) -> str:
    return "".join(model.tokenizer.convert_ids_to_tokens(list(ids)))
