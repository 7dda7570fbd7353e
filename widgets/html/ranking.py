"""A ranking → HTML: the report that a notebook shows, and the page that opens offline.

The report is built from inline styles, tables and pictures only (marks.py, svg.py): it shows in untrusted notebooks and without scripts.
The page adds a live table below it, the widget's own ES module on the rows as JSON.
"""

import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from widgets.figures.svg import THIRD, scatter_svg, slopes_svg
from widgets.html.ranking_data import picture, question_of
from widgets.html.standalone import Part, document
from widgets.marks import (
    FAINT,
    ORANGE,
    PURPLE,
    bar_html,
    cell_html,
    heading_html,
    highlights_html,
    number,
    share,
    table_html,
    token_html,
    visible,
)

STATIC = Path(__file__).parents[1] / "static"
N_TOP, N_SHADED = 10, 6
ORDERS = ("activation", "attribution", "effect")
CUT = "max-width:150px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
SHORT = {"activation": "activ.", "attribution": "attrib.", "effect": "effect"}
N_PAGE_ROWS = 5_000  # a page of more would be megabytes; the rest has the smallest effects
TRAITS = dict(
    sort_by="effect",
    is_descending=True,
    query="",
    page=0,
    page_size=12,
    is_summed=False,
    shows="table",
    view={},
    detail={},
    picture={},
    question={},
    stale="",
    marked=[],
    shown="",
)  # a new table


def ranking_html(ranking: Any) -> str:
    """A FeatureRanking as a static report: the question, the shaded prompt, the agreement, one list in three orders."""
    sections = [_question(ranking), _behind(ranking), _agreement(ranking), _three_orders(ranking), _footnote()]
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{"".join(sections)}</div>'


def ranking_page(ranking: Any) -> str:
    """The report as a whole document with the live table below it; its content policy allows no network at all."""
    script = "".join(
        (STATIC / name).read_text()
        for name in ("shared/pane.js", "shared/copy.js", "shared/picture.js", "ranking/ranking_views.js", "ranking/ranking.js")
    )
    style = "".join((STATIC / name).read_text() for name in ("shared/pane.css", "ranking/ranking.css"))
    offline = "".join((STATIC / name).read_text() for name in ("shared/rows_offline.js", "ranking/ranking_offline.js"))
    data = page_rows(ranking)
    data["pictures"] = {kind: picture(ranking, kind) for kind in ("ranks", "agreement")}
    table = Part("table", script, style, dict(TRAITS, feature=_first(ranking)), offline, data)
    return document(_why(ranking), [table], ranking_html(ranking) + heading_html("All of them", ""))


def page_rows(ranking: Any) -> dict[str, Any]:
    """What a page without Python needs of a ranking to sort, filter and show features: ranking_offline.js."""
    table = ranking.table.head(N_PAGE_ROWS)
    return {
        "tokens": [visible(token) for token in ranking.str_tokens],
        "rows": {name: _json_column(table[name]) for name in ("feature", "label", "token", "pos", *ORDERS)},
        "n_left_out": len(ranking.table) - len(table),
        "is_start_included": ranking.is_start_included,
        "question": question_of(ranking),
    }


def rows_html(view: dict[str, Any]) -> str:
    """The page of rows that a RankingTable shows (its `view`), as a static table."""
    head = [cell_html(column["title"], "font-weight:600;" + _aligned(column), "th") for column in view["columns"]]
    rows = []
    for row in view["rows"]:
        cells = []
        for column in view["columns"]:
            name, value = column["name"], row[column["name"]]
            if column["kind"] == "measure":
                content = bar_html(math.nan if value is None else value, view["scales"][name], name != "activation")
            else:
                content = token_html(value) if column["kind"] == "token" else escape(str(value))
            cells.append(cell_html(content, _aligned(column)))
        rows.append(cells)
    first, n_matching = view["first"], view["n_matching"]
    shown = f"{first + 1:,}–{first + len(rows):,} of {n_matching:,} {view['unit']}" if rows else "no row matches"
    return table_html(rows, head) + f'<div style="margin-top:6px;font-size:12px;{FAINT}">{shown}</div>'


def detail_html(detail: dict[str, Any]) -> str:
    """The chosen feature that a RankingTable shows (its `detail`): sums, the shaded prompt, its strongest texts."""
    if not detail:
        return ""
    sums = " · ".join(
        f"{m['name']} <b>{number(_nan(m['value']), m['name'] != 'activation', m['scale'])}</b> #{m['rank'] or '–'}"
        for m in detail["measures"]
    )
    values = {i: value for i, value in enumerate(detail["values"]) if value is not None}
    parts = [
        heading_html(escape(detail["label"]) or f"feature {detail['feature']}", f"feature {detail['feature']}, summed over positions"),
        f'<div style="font-size:12px">{sums}</div>',
        f'<div style="margin:6px 0;font-size:13px">{highlights_html(detail["tokens"], values, detail["scale"] or 0.0)}</div>',
    ]
    rows = []
    for example in detail["examples"]:
        active = {i: value for i, value in enumerate(example["activations"]) if value is not None}
        text = highlights_html(example["tokens"], active, example["scale"], is_signed=False)
        rows.append([cell_html(number(example["max"], False, example["scale"]), "text-align:right;width:48px"), cell_html(text)])
    return "".join(parts) + table_html(rows)


def _aligned(column: dict[str, str]) -> str:
    return (
        "text-align:right;width:72px"
        if column["kind"] == "measure"
        else "text-align:right"
        if column["kind"] == "integer"
        else "text-align:left"
    )


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _first(ranking: Any) -> int | None:
    return int(ranking.table["feature"].iloc[0]) if len(ranking.table) else None


def _why(ranking: Any) -> str:
    other = f"“{visible(ranking.baseline).strip()}”" if ranking.baseline else "the average token"
    return f"Why “{visible(ranking.answer).strip()}” rather than {other}?"


def _question(ranking: Any) -> str:
    table = ranking.table
    n_measured, n_features = int(table["effect"].notna().sum()), table["feature"].nunique()
    other = f"logit({token_html(ranking.baseline)})" if ranking.baseline else "mean logit"
    metric = f"logit({token_html(ranking.answer)}) − {other} = <b>{number(ranking.clean_metric)}</b>{_standing(ranking)}"
    measured = "every effect measured" if n_measured == len(table) else f"{n_measured:,} effects measured"
    start = escape(visible(ranking.start_words))
    notes = "".join(f'<div style="margin-top:4px;font-size:12px">{escape(visible(note))}</div>' for note in ranking.notes)
    source = " · ".join(escape(visible(name)) for name in (ranking.model_name, ranking.sae_name, ranking.hook_name) if name)
    return (
        f'<div style="font-size:20px;font-weight:600;line-height:1.3">{escape(_why(ranking))}</div>'
        f'<div style="margin-top:4px">{metric}</div>'
        f'<div style="margin-top:4px;{FAINT};font-size:12px">{n_features:,} features active at {len(table):,} (feature, position) pairs · '
        f"{measured} · {start}{' · ' if source else ''}{source}</div>{notes}"
    )


def _standing(ranking: Any) -> str:
    """What the model would say itself; and a word where the answer is not that."""
    standing = getattr(ranking, "standing", None)
    if standing is None:
        return ""
    said = " ".join(f"{token_html(token)} {share(p)}" for token, p in standing.next_tokens.items())
    caveat = f'<div style="margin-top:4px"><b>⚠ {escape(visible(ranking.caveat))}</b></div>' if ranking.caveat else ""
    return f'<div style="margin-top:4px;font-size:12px">the model’s own next token: {said}</div>{caveat}'


def _behind(ranking: Any) -> str:
    features = ranking.by_feature()
    longest = float(features["effect"].abs().max())
    supporting = features[features["effect"] > 0].head(N_SHADED)
    opposing = features[features["effect"] < 0].iloc[::-1].head(N_SHADED // 2)
    against = _shaded_prompts(ranking, opposing, longest)
    details = f'<details style="margin-top:8px"><summary style="{FAINT};font-size:12px">Features against it</summary>{against}</details>'
    heading = heading_html("The features behind the answer", "effect, summed over positions; the prompt shaded by it")
    return heading + _shaded_prompts(ranking, supporting, longest) + (details if len(opposing) else "")


def _shaded_prompts(ranking: Any, features: pd.DataFrame, longest: float) -> str:
    pairs = ranking.table[ranking.table["feature"].isin(features["feature"])]
    scale = float(ranking.table["effect"].abs().max())
    rows = []
    for row in features.itertuples():
        values = dict(pairs[pairs["feature"] == row.feature][["pos", "effect"]].itertuples(index=False))
        prompt = highlights_html(ranking.str_tokens, values, scale, first=0 if ranking.is_start_included else 1)
        cells = [cell_html(bar_html(row.effect, longest), "width:64px"), cell_html(_name(row), "width:200px;padding-left:8px")]
        rows.append([*cells, cell_html(prompt)])
    return f'<div class="wb-shaded">{table_html(rows)}</div>'


def _agreement(ranking: Any) -> str:
    agreement, table = ranking.agreement(), ranking.table
    panels = []
    for by in ("attribution", "activation"):
        names = (f"{by}_rank_correlation", f"{by}_correlation")
        (figure, plain), overlap = (
            (number(getattr(agreement, name), is_signed=False) for name in names),
            getattr(agreement, f"{by}_overlap"),
        )
        says = f"<b>{overlap} of {agreement.n_top}</b> largest effects are among its top {agreement.n_top}<br>"
        says += _linear(ranking, agreement, plain) if by == "attribution" else f"linear correlation {plain}"
        if agreement.n_top == agreement.n_measured:
            says = f"only {agreement.n_measured} pairs were measured: too few for a top {N_TOP}"
        alt = f"effect against {by}: rank correlation {figure}"
        points, is_line = (table[by].to_numpy(float), table["effect"].to_numpy(float)), by == "attribution"
        picture = scatter_svg(*points, by, "effect", alt, has_diagonal=is_line, size=THIRD)
        panels.append(_panel(figure, f"rank correlation of {by} with effect", says, picture))
    top = ranking.top(N_TOP)
    ranks = top[[f"{by}_rank" for by in ORDERS]].to_numpy(float)
    median = number(float(np.median(ranks[:, 0])), is_signed=False).removesuffix(".00") if len(top) else "–"
    alt = f"ranks of the {len(top)} largest effects in three orders"
    picture = slopes_svg(ranks, top["effect"].to_numpy(float), ORDERS, alt, THIRD)
    panels.append(_panel(median, "median rank by activation", f"of the {len(top)} largest effects", picture))
    note = f"over {agreement.n_measured:,} pairs; the {agreement.n_top} largest effects drawn big"
    return heading_html("Would a cheaper order have found them?", note) + f"<div>{''.join(panels)}</div>"


def _linear(ranking: Any, agreement: Any, plain: str) -> str:
    """The correlation that one pair can decide, and that pair."""
    if not agreement.hangs_on_one_pair:
        return f"linear correlation {plain}"
    row = ranking.table.loc[agreement.outlier]
    pair = f"{escape(visible(row['label'])) or 'feature'} {row['feature']} at {token_html(row['token'])}"
    about = f"attribution {number(row['attribution'])}, effect {number(row['effect'])}"
    without = number(agreement.attribution_without, is_signed=False)
    return f"linear correlation {plain}, but <b>{without}</b> without one pair: {pair} ({about})"


def _panel(figure: str, means: str, says: str, picture: str) -> str:
    return (
        '<div class="wb-panel" style="display:inline-block;vertical-align:top;width:310px;margin:0 14px 8px 0">'
        f'<div style="margin-bottom:8px"><span style="font-size:22px;font-weight:600">{figure}</span> {means}<br>{says}</div>'
        f"{picture}</div>"
    )


def _three_orders(ranking: Any) -> str:
    lists = "".join(_order_list(ranking.top(N_TOP, by=by), by) for by in reversed(ORDERS))
    return (
        heading_html("One list, three orders", "with the rank of each row in the other two, and the places it gains ▲ or loses ▼ there")
        + f"<div>{lists}</div>"
    )


def _order_list(top: pd.DataFrame, by: str) -> str:
    others = [order for order in reversed(ORDERS) if order != by]
    scale = float(top[by].abs().max()) if len(top) else 0.0
    small = "font-size:11px;font-weight:400;text-align:right;white-space:nowrap;" + FAINT
    head = [
        cell_html("", "width:18px", "th"),
        cell_html(f"by {by}", "font-size:13px;font-weight:600;width:150px", "th"),
        cell_html("", "width:52px", "th"),
    ]
    head += [cell_html(SHORT[order], f"{small};width:42px", "th", title=f"rank by {order}") for order in others]
    rows = []
    for rank, row in enumerate(top.itertuples(), start=1):
        cells = [cell_html(str(rank), f"text-align:right;{FAINT}"), cell_html(_two_lines(row))]
        cells.append(cell_html(bar_html(getattr(row, by), scale, by != "activation"), "text-align:right"))
        rows.append(cells + [cell_html(_move(rank, getattr(row, f"{order}_rank")), "text-align:right") for order in others])
    style = "display:inline-block;vertical-align:top;width:310px;margin:0 14px 12px 0"
    return f'<div class="wb-panel" style="{style}">{table_html(rows, head)}</div>'


def _footnote() -> str:
    swatch = '<span style="background-color:rgba({0},0.4);border-bottom:2px {1} rgba({0},0.8);padding:0 4px">{2}</span>'
    supports, opposes = swatch.format(ORANGE, "solid", "supports the answer"), swatch.format(PURPLE, "dashed", "opposes it")
    return (
        f'<div style="margin-top:14px;font-size:12px">{supports} {opposes} <span style="{FAINT}">· effect: the metric lost when one '
        "feature is set to 0 at one position; it misleads where features are split or backed up. Attribution: its first-order "
        "estimate.</span></div>"
    )


def _name(row: Any) -> str:
    """The label with the feature's number behind it, or the number alone."""
    label = escape(visible(row.label))
    return f'{label} <span style="{FAINT};font-size:11px">{row.feature}</span>' if label else f"feature {row.feature}"


def _two_lines(row: Any) -> str:
    """The label, cut to its line; below it the token that it is active on, and the feature's number."""
    label = visible(row.label)
    first = f'<div style="{CUT}">{escape(label) or f"feature {row.feature}"}</div>'
    second = f' <span style="{FAINT};font-size:11px">{row.feature}</span>' if label else ""
    title = escape(f"feature {row.feature} at position {row.pos} {label}".rstrip())
    return f'<div title="{title}">{first}{token_html(row.token)}{second}</div>'


def _move(here: int, there: Any) -> str:
    if pd.isna(there):
        return "–"
    change = here - int(there)
    mark = f"{'▲' if change > 0 else '▼'}{abs(change):,}" if change else "="
    return f'{int(there):,}<br><span style="{FAINT};font-size:10px">{mark}</span>'


def _json_column(column: pd.Series) -> list[Any]:
    """Six significant digits are more than the page shows, and keep it small."""
    if not pd.api.types.is_numeric_dtype(column):
        return [visible(str(value)) for value in column]
    if pd.api.types.is_integer_dtype(column):
        return column.tolist()
    return [None if math.isnan(value) else float(f"{value:.6g}") for value in column]
