"""workbench rank: the features behind an answer, as tables, JSON or a page. workbench steer: what a feature makes the model write."""

import json
import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import ChatFile, Index, Insist, StartToken, prompt_or_chat, start_of, with_index
from workbench.files import checked_file

if TYPE_CHECKING:
    from workbench.circuits.ranking.ranking import FeatureRanking
    from workbench.circuits.steering.continuations import Steering


class Order(StrEnum):
    """What a ranking is sorted by."""

    effect = "effect"
    attribution = "attribution"
    activation = "activation"


class Precision(StrEnum):
    """How effects are computed."""

    exact = "exact"
    delta = "delta"


def rank(
    prompt: Annotated[str | None, typer.Argument(help="What the model reads, up to the answer.")] = None,
    *,
    answer: Annotated[str, typer.Option(help='One token, usually with a leading space: " Sacramento".')],
    chat: ChatFile = None,
    baseline: Annotated[str | None, typer.Option(help="The token to compare with; without it, the mean logit of the vocabulary.")] = None,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="The SAE's folder; for the atlas, one of its widths.")] = None,
    index: Index = None,
    start_token: StartToken = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many rows. [default: 10 in a table, all in JSON]")] = None,
    by: Annotated[list[Order], typer.Option(help="The order; give it several times for several tables.")] = [Order.effect],  # noqa: B006
    ablate: Annotated[int | None, typer.Option(min=1, help="Measure only this many pairs, those of largest |attribution|.")] = None,
    until: Annotated[str | None, typer.Option(help='Measure until so many of the largest effects are certain, such as "top 10".')] = None,
    precision: Annotated[Precision, typer.Option(help="delta: faster on bf16 hardware, with an error that is measured.")] = Precision.exact,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page that opens offline.")] = None,
    insist: Insist = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Rank the features behind an answer: by measured effect, attribution or activation."""
    if html is not None:
        checked_file(html)
    read = prompt_or_chat(prompt, chat)
    from workbench.benches import load
    from workbench.circuits.metrics import logit_diff

    bench = with_index(load(model, sae, device=device, start_token=start_of(start_token)), index)
    ranking = bench.rank(read, logit_diff(answer, baseline), ablate=ablate, until=until, insist=insist, precision=precision.value)
    if html is not None:
        ranking.to_html(html)
    if as_json:
        print(json.dumps(ranking_json(ranking, top, by[0]), ensure_ascii=False, allow_nan=False, indent=1))
        return
    print_tables(ranking, top or 10, by)
    if html is not None:
        print(f"\nWritten: {html}")


def ranking_json(ranking: "FeatureRanking", top: int | None, by: Order) -> dict[str, Any]:
    """The whole ranking as plain data; what was not measured is null."""
    rows = ranking.top(top or max(1, len(ranking.table)), by=by)
    about = ("prompt", "str_tokens", "answer", "baseline", "clean_metric", "model_name", "sae_name", "hook_name", "is_start_included")
    about = (*about, "start_token", "notes")
    agreement = {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in vars(ranking.agreement()).items()
    }
    facts = {name: getattr(ranking, name) for name in about}
    return facts | {"agreement": agreement, "rows": json.loads(rows.to_json(orient="records", double_precision=15))}


def print_tables(ranking: "FeatureRanking", top: int, orders: Sequence[Order]) -> None:
    """A table for each order on stdout, cut to the width of the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from widgets.html.ranking import number, visible
    from widgets.html.ranking_data import digits_of

    console, metric = Console(), ranking.clean_metric
    scales = digits_of({name: float(ranking.table[name].abs().max()) for name in Order})  # as on the screen: small effects have digits, too
    rather = repr(ranking.baseline) if ranking.baseline else "the mean logit"
    console.print(Text(visible(ranking.prompt)))
    console.print(Text(f"Why {ranking.answer!r} rather than {rather}? Difference: {number(metric, False, abs(metric))}"))
    if ranking.caveat:
        console.print(Text(ranking.caveat, style="bold"))
    for note in ranking.notes:
        console.print(Text(note))
    for order in orders:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("", "feature", "token", *Order, "label"):
            is_text = heading in ("token", "label")
            # texts are folded where there is no room, never cut; numbers stay on their line
            table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
        for place, row in enumerate(ranking.top(top, by=order).to_dict("records"), start=1):
            numbers = [number(row[name], name != Order.activation, scales[name]) for name in Order]
            ranks = [row[f"{name}_rank"] for name in Order]  # no rank where the effect was not measured
            cells = [
                Text.assemble(value, (f" #{rank}" if isinstance(rank, int) else "", "dim"))
                for value, rank in zip(numbers, ranks, strict=True)
            ]
            whose = f", {row['role']} {row['turn']}" if "role" in row else ""
            token = Text(f"{visible(row['token'])} ({row['pos']}{whose})")
            table.add_row(str(place), str(row["feature"]), token, *cells, Text(visible(row["label"])))
        console.print(Text(f"\nThe {top} largest by {order}", style="bold"))
        console.print(table)
    console.print(Text(repr(ranking.agreement())))


def steer(
    prompt: Annotated[str | None, typer.Argument(help="What the model goes on from.")] = None,
    *,
    feature: Annotated[
        list[str], typer.Option(help="FEATURE=STRENGTH, as 1234=10; several strengths as 1234=0,5,10. Give it again for more.")
    ],
    chat: ChatFile = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="How far the model goes on.")] = 40,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy, 1 samples from the model's own probabilities.")] = 0.0,
    samples: Annotated[int, typer.Option(min=1, help="Texts for each strength.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first sample.")] = 0,
    token: Annotated[list[str], typer.Option(help="Also print the probability of this next token.")] = [],  # noqa: B006
    max_act: Annotated[list[str], typer.Option(help="FEATURE=ACTIVATION that strength 1 stands for, where it is not known.")] = [],  # noqa: B006
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="The SAE's folder; for the atlas, one of its widths.")] = None,
    index: Index = None,
    start_token: StartToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of texts.")] = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Let the model write while features are clamped to strength × their largest activation; the unsteered text beside it."""
    strengths = dict(map(_numbers, feature))
    known, read = {key: values[0] for key, values in map(_numbers, max_act)}, prompt_or_chat(prompt, chat)
    from workbench.benches import load

    bench = with_index(load(model, sae, device=device, start_token=start_of(start_token)), index)
    steering = bench.steer(
        read, strengths, max_new_tokens, temperature=temperature, n_samples=samples, seed=seed, tokens=token, max_act=known
    )
    if as_json:
        print(json.dumps(steering_json(steering), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        print_texts(steering)


def _numbers(typed: str) -> tuple[int, list[float]]:
    """ "1234=0,5,10" → (1234, [0, 5, 10])"""
    feature, _, numbers = typed.partition("=")
    try:
        return int(feature), [float(number) for number in numbers.split(",")]
    except ValueError:
        raise ValueError(f"{typed!r} is not FEATURE=NUMBER: expected something like 1234=10 or 1234=0,5,10") from None


def steering_json(steering: "Steering") -> dict[str, Any]:
    """The texts and what was measured of them as plain data; what has no value is null."""
    about = {name: getattr(steering, name) for name in ("prompt", "max_act", "labels", "notes", "model_name", "sae_name", "hook_name")}
    return about | {"continuations": json.loads(steering.table.to_json(orient="records", double_precision=15))}


def print_texts(steering: "Steering") -> None:
    """The unsteered continuation and the steered ones on stdout."""
    from rich.console import Console
    from rich.text import Text

    from widgets.html.ranking import number, visible

    console, scale = Console(), max(steering.max_act.values(), default=1.0)
    for feature, most in steering.max_act.items():
        label = visible(steering.labels.get(feature, ""))
        console.print(Text(f"feature {feature} {label}".rstrip() + f": strength 1 is activation {number(most, False, most)}"))
    for note in steering.notes:
        console.print(Text(note))
    for row in steering.table.to_dict("records"):
        figures = [
            f"perplexity {number(row['perplexity'], is_signed=False)}",
            f"own activation {number(row['activation'], False, scale)}",
        ]
        figures += [f"{name} {value:.3f}" for name, value in row.items() if str(name).startswith("p(")]
        console.print(Text.assemble("\n", (row["name"], "bold"), (f"  {' · '.join(figures)}", "dim")))
        console.print(Text.assemble((visible(steering.prompt), "dim"), visible(row["text"])))
