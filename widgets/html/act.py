"""What acting on features gave → HTML that a notebook shows: steered texts side by side.

Built like a ranking's report from inline styles, tables and pictures only; texts, tokens and labels are data and enter escaped.
"""

import math
from html import escape
from typing import Any

from widgets.marks import FAINT, RULE, bar_html, cell_html, heading_html, highlights_html, in_lines, number, table_html, token_html, visible

N_TOKENS = 8  # rows of the next-token table
N_COLUMNS = 8  # settings that it shows
N_STRONGEST = 15
WAY_NAMES = {"effect_mean": "setting them to their mean:", "effect_resample": "taking them from the other prompt:"}
SHARES = (0.5, 0.8, 0.9)  # of the metric


def steering_html(steering: Any) -> str:
    """A Steering: the unsteered text first, each setting's beside it, shaded where the steered features themselves are active."""
    longest = max((max(each.activations, default=0.0) for each in steering.continuations), default=0.0)
    panels = "".join(_panel(steering, each, longest) for each in steering.continuations)
    notes = "".join(f'<div style="margin-top:4px">⚠ {escape(note)}</div>' for note in steering.notes)
    head = f'<div style="font-size:20px;font-weight:600;line-height:1.3">{_title(steering)}</div>{_about(steering)}{notes}'
    body = f'<div style="margin-top:10px">{panels}</div>{_next_tokens(steering)}{_footnote(bool(steering.max_act))}'
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{head}{body}</div>'


def _title(steering: Any) -> str:
    names = [steering.labels.get(feature) or f"feature {feature}" for feature in steering.max_act]
    return f"Steered by {escape(visible(', '.join(names)))}" if names else "Steered by a vector"


def _about(steering: Any) -> str:
    each = [f"feature {feature}: strength 1 is activation {value:.3g}" for feature, value in steering.max_act.items()]
    source = [visible(name) for name in (steering.model_name, steering.sae_name, steering.hook_name) if name]
    return f'<div style="margin-top:4px;font-size:12px;{FAINT}">{escape(" · ".join([*each, *source]))}</div>'


def _panel(steering: Any, each: Any, longest: float) -> str:
    """One continuation: its name, what it costs, the prompt in gray and what was written after it."""
    figures = [f"perplexity {number(each.perplexity, is_signed=False)}"]
    if each.activations:
        figures.append(f"own activation {number(each.activation, is_signed=False, scale=longest)}")
    sample = f" · sample {each.sample + 1}" if max(other.sample for other in steering.continuations) else ""
    prompt = f'<span style="{FAINT};white-space:pre-wrap">{escape(in_lines(steering.prompt))}</span>'
    written = highlights_html(each.str_tokens, dict(enumerate(_shown(each.activations))), longest, is_signed=False)
    if not each.str_tokens:
        written = f'<span style="{FAINT}">(the text ended here)</span>'
    return (
        f'<div style="display:inline-block;vertical-align:top;width:340px;margin:0 16px 14px 0;padding-top:6px;border-top:{RULE}">'
        f'<div><b>{escape(each.setting.name)}</b>{sample}</div><div style="{FAINT};font-size:12px">{" · ".join(figures)}</div>'
        f'<div style="margin-top:4px;overflow-wrap:break-word">{prompt}{written}</div></div>'
    )


def _shown(activations: list[float]) -> list[float]:
    """Only where the features are active is a token shaded."""
    return [value if value > 0 else math.nan for value in activations]


def next_token_table(steering: Any, n_tokens: int = N_TOKENS, n_columns: int = N_COLUMNS) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Probabilities right after the prompt, the same for every sample of a setting: (the likeliest tokens, setting → token → probability).
    Tokens that were asked for stand first; of many settings the first few and the last."""
    first = {each.setting.name: each.next_tokens for each in reversed(steering.continuations)}
    names = list(reversed(first))
    columns = {name: first[name] for name in (names if len(names) <= n_columns else [*names[: n_columns - 1], names[-1]])}
    best: dict[str, float] = dict.fromkeys(steering.tokens, 2.0)
    for probabilities in columns.values():
        for token, value in probabilities.items():
            best[token] = max(best.get(token, 0.0), value)
    return sorted(best, key=lambda token: -best[token])[: max(n_tokens, len(steering.tokens))], columns


def _next_tokens(steering: Any) -> str:
    tokens, columns = next_token_table(steering)
    head = [cell_html("", tag="th"), *(cell_html(escape(name), "text-align:right;width:90px;font-weight:600", "th") for name in columns)]
    rows = []
    for token in tokens:
        values = [probabilities.get(token, math.nan) for probabilities in columns.values()]
        rows.append([cell_html(token_html(token)), *(cell_html(bar_html(value, 1.0, is_signed=False)) for value in values)])
    is_cut = len({each.setting.name for each in steering.continuations}) > N_COLUMNS
    left_out = f", the first {N_COLUMNS - 1} settings and the last" if is_cut else ""
    about = f"probability right after the prompt{left_out}; – not among the likeliest"
    return heading_html("The next token", about) + table_html(rows, head)


def _footnote(has_features: bool) -> str:
    own = (
        "Own activation, and blue: how active the steered features are at the new tokens when the unsteered model reads the text; "
        "0 where they fire at none of them. "
        if has_features
        else ""
    )
    says = f"{own}Perplexity: how unlikely the text is to the unsteered model, 1 for certain; greedy texts are likelier than people's."
    return f'<div style="margin-top:14px;font-size:12px;{FAINT}">{says}</div>'


def set_curves_html(curves: Any) -> str:
    """SetCurves: how small a set each order gives, and the curves."""
    from widgets.figures.act import plot_set_curves

    answer, baseline = curves.metric.answer, curves.metric.baseline
    rather = "the mean logit" if baseline is None else token_html(str(baseline))
    error = "" if curves.is_error_kept else ", and what the SAE does not explain"
    whole = curves.table["only"].iloc[curves.table["size"].argmax()]
    known = ((curves.clean_metric, "as it is"), (whole, "with these features alone"), (curves.floor, "without any"))
    about = ", ".join(f"<b>{number(value)}</b> {what}" for value, what in known)
    sizes = {share: curves.smallest(share).set_index("order") for share in SHARES}
    right = "text-align:right;width:90px"
    head = [cell_html("order", "font-weight:600", "th")]
    head += [cell_html(f"{share:.0%} {what}", right + ";font-weight:600", "th") for what in ("kept by", "lost without") for share in SHARES]
    rows = []
    for order in sizes[SHARES[0]].index:
        found = [sizes[share].loc[order, column] for column in ("keeps", "loses") for share in SHARES]
        rows.append([cell_html(escape(str(order))), *(cell_html("–" if math.isnan(size) else f"{size:,.0f}", right) for size in found)])
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45"><div style="font-size:20px;font-weight:600">How many features?</div>'
        f'<div style="margin-top:4px">{escape(visible(curves.prompt))}</div>'
        f"<div>logit({token_html(str(answer))}) − {rather}: {about}</div>"
        f"{heading_html('The smallest sets', 'how many of the first in each order; random: median over draws')}{table_html(rows, head)}"
        f"{heading_html('Sets that grow', 'a share above 1 or below 0: what is left out spoke for the other answer')}"
        f"{plot_set_curves(curves.table)._still}"
        f'<div style="margin-top:10px;font-size:12px;{FAINT}">A set alone: every other feature switched off{error}. Without a set: '
        "the set switched off, all else as it is. The start token is left alone.</div></div>"
    )


def controls_html(controls: Any) -> str:
    """Controls: what each kind is worth, how far the ways of ablating agree, and the strongest rows of every kind together."""
    kinds, ways = controls.by_kind(), controls.ways()
    longest = float(kinds["largest"].max())
    right = "text-align:right;width:110px"
    names = ("n", "median |effect|", "largest |effect|", "attribution", "integrated gradients")
    head = [cell_html("", tag="th"), *(cell_html(name, right + ";font-weight:600", "th") for name in names)]
    rows = []
    for row in kinds.itertuples():
        bars = [cell_html(bar_html(value, longest, is_signed=False), right) for value in (row.median, row.largest)]
        correlations = [cell_html(number(value, is_signed=False), right) for value in (row.attribution, row.integrated)]
        rows.append([cell_html(escape(row.kind), "white-space:nowrap"), cell_html(f"{row.n:,}", right), *bars, *correlations])
    agreed = [f"{WAY_NAMES[row.way]} {number(row.correlation, is_signed=False)}" for row in ways.itertuples() if row.way != "effect"]
    agreement = f"<div>Effects of setting features to 0 correlate with those of {escape(', '.join(agreed))}.</div>" if agreed else ""
    metric = f"metric as it is: <b>{number(controls.clean_metric)}</b>"
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        '<div style="font-size:20px;font-weight:600">Do features earn their place?</div>'
        f'<div style="margin-top:4px">{escape(visible(controls.prompt))} · {metric}</div>'
        f"{heading_html('One taken away', 'and the correlation of two estimates with its effect')}{table_html(rows, head)}{agreement}"
        f"{heading_html(f'The {N_STRONGEST} largest effects of all', 'either sign')}{_strongest(controls.table)}</div>"
    )


def _strongest(table: Any) -> str:
    top = table.reindex(table["effect"].abs().sort_values(ascending=False, kind="stable").index[:N_STRONGEST])
    head = [cell_html(name, "font-weight:600", "th") for name in ("kind", "which", "token", "effect", "attribution", "activation")]
    scales = {name: float(top[name].abs().max()) for name in ("effect", "attribution", "activation")}
    rows = []
    for row in top.itertuples():
        which = escape(visible(f"{row.feature} {row.label}".strip() if row.feature >= 0 else row.label))
        bars = [cell_html(bar_html(getattr(row, name), scales[name], name != "activation"), "width:90px") for name in scales]
        rows.append([cell_html(escape(row.kind), "white-space:nowrap"), cell_html(which), cell_html(token_html(row.token)), *bars])
    return table_html(rows, head)


def trace_html(trace: Any) -> str:
    """A StepTrace: where each step counts most, and a heat map of every step."""
    head = [cell_html(name, "font-weight:600", "th") for name in ("step", "largest effect", "at", "token", "mean layer of its effect")]
    summary = trace.summary()
    longest = float(summary["effect"].abs().max())
    rows = []
    for row in summary.itertuples():
        where = f"{row.hook_name}, position {row.pos}"
        cells = [escape(visible(row.step)), bar_html(row.effect, longest), escape(where), token_html(row.token)]
        rows.append([cell_html(cell) for cell in [*cells, number(row.mean_layer, is_signed=False)]])
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        '<div style="font-size:20px;font-weight:600">Where each step counts</div>'
        f'<div style="margin-top:4px">{escape(visible(trace.prompt))} · metric as it is: <b>{number(trace.clean_metric)}</b></div>'
        f"{table_html(rows, head)}"
        f"{heading_html('Effect over layer and position', 'of the features at a layer, switched off at one position; gray: not known')}"
        f"{trace.plot()._still}</div>"
    )


def layer_rankings_html(layers: Any) -> str:
    """LayerRankings: the three largest effects at each hook point; the rankings themselves are one look away."""
    head = [cell_html(name, "font-weight:600", "th") for name in ("hook point", "effect", "feature", "token", "correlation of attribution")]
    longest = float(layers.table["effect"].abs().max())
    rows = []
    for name, ranking in layers.rankings.items():
        correlation = number(ranking.agreement().attribution_correlation, is_signed=False)
        for place, row in enumerate(ranking.top(3).itertuples()):
            label = escape(visible(f"{row.feature} {row.label}".rstrip()))
            cells = [
                "" if place else escape(name),
                bar_html(row.effect, longest),
                label,
                token_html(row.token),
                "" if place else correlation,
            ]
            rows.append([cell_html(cell) for cell in cells])
    first = next(iter(layers.rankings.values()))
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        '<div style="font-size:20px;font-weight:600">The largest effects at each layer</div>'
        f'<div style="margin:4px 0 10px">{escape(visible(first.prompt))} · metric as it is: <b>{number(first.clean_metric)}</b></div>'
        f"{table_html(rows, head)}</div>"
    )
