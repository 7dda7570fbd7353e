"""Several prompts ranked together: typed, pasted or read from a file, one a line; the features that matter over all of them.

    pane = BatchPane(prompt_pane)                       the pane of the question above
    pane.text = "the cat sat on the | mat\\nthe dog ran to the | mat | dog"; pane.run().wait()
    pane.batch                                          the RankingBatch that bench.rank_many gives
    pane.load("prompts.txt")                            adds the lines of a file beside the notebook

What is ranked of a prompt is kept: a line that is added is the only one that is measured. Cancelled, it shows what there is.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import traitlets

from widgets.html.batch import means_html
from widgets.html.ranking_data import plain
from widgets.marks import visible
from widgets.panes.beside.lines import Line, n_questions, read_lines, split_lines
from widgets.panes.beside.paged import Paged
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from widgets.panes.prompt import PromptPane, Question
from widgets.panes.screen.loading import script
from widgets.rows import QueryError, Rows
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.batch import RankingBatch
from workbench.circuits.ranking.measurement import Measurement
from workbench.circuits.ranking.ranking import FeatureRanking, as_ranking
from workbench.files import read_text
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_tokens

SORTS = ("effect", "feature", "n_prompts", "attribution", "activation", "low", "high")
SHOWN_AGAIN = 1.0  # seconds between two tables of a batch that is being measured, at least
MOST_BYTES = 2**20  # of a file: thousands of prompts
MOST_LETTERS = 160  # of a prompt beside a feature


class BatchPane(Paged, WorkingPane):
    """Mean effects over prompts, with intervals and on how many each feature is active; a row selects and says what it does on each."""

    _esm = module("shared/copy", "shared/paged", "batch/batch")
    _css = style("shared/paged", "batch/batch")
    columns = ("feature", "label", "n_prompts", "activation", "attribution", "effect", "low", "high")
    kept = ("text", "answer", "baseline", "sort_by", "is_descending", "query", "page", "feature")
    maker = "BatchPane(prompt_pane)"
    actions = ("run", "cancel")

    text = traitlets.Unicode("", help="prompts, one a line: prompt | answer | baseline").tag(sync=True)
    answer = traitlets.Unicode("", help="of lines that name none; empty: the model's own first").tag(sync=True)
    baseline = traitlets.Unicode("", help="of lines that name none; empty: the mean logit").tag(sync=True)
    n_typed = traitlets.Int(0, read_only=True, help="prompts that are typed").tag(sync=True)
    loaded = traitlets.Unicode(read_only=True, help="what came of reading a file").tag(sync=True)
    sort_by = traitlets.Enum(SORTS, "effect").tag(sync=True)
    each = traitlets.Dict(read_only=True, help="the selected feature on every prompt").tag(sync=True)
    page_size = traitlets.Int(8, min=1).tag(sync=True)  # below it, the selection on each prompt
    is_stale = traitlets.Bool(False, read_only=True, help="was what is typed changed since?").tag(sync=True)

    def __init__(self, first: PromptPane, **traits: Any):
        self._bench, self._first = first.bench, first
        self._batches: dict[str, tuple[tuple, RankingBatch]] = {}  # SAE → what was typed, what came of it
        self._known: dict[tuple[str, Line], FeatureRanking] = {}  # of what is typed now
        super().__init__(first.bench.model, **traits)
        self._show_batch()

    @property
    def batch(self) -> RankingBatch | None:
        """What was ranked last through this dictionary."""
        return self._batches[self._bench.sae_name][1] if self._bench.sae_name in self._batches else None

    @property
    def _typed(self) -> tuple:
        return self.text, self.answer, self.baseline

    def look_through(self, bench: Any) -> None:
        """Another dictionary, with what was ranked through it before."""
        self.cancel()
        self._bench = bench
        self.relabel()  # labels may have changed since

    def relabel(self) -> None:
        """The features, called as they are now."""
        name, labels = self._bench.sae_name, self._bench.labels
        if name in self._batches:
            typed, batch = self._batches[name]
            self._batches[name] = typed, RankingBatch([each.relabeled(labels) for each in batch.rankings])
            self._known = {key: each.relabeled(labels) if key[0] == name else each for key, each in self._known.items()}
        self._show_batch()

    @traitlets.observe("text", "answer", "baseline")
    def _count(self, change: Any = None) -> None:
        with SETTING:
            self.set_trait("n_typed", n_questions(self.text))
            if self.progress.get("stage") == "failed":
                self.set_trait("progress", {})  # of what was typed before
            self._show_stale()

    def _show_stale(self) -> None:
        known = self._batches.get(self._bench.sae_name)
        self.set_trait("is_stale", known is not None and known[0] != self._typed)

    def load(self, path: str | Path) -> None:
        """Adds the lines of a text file, those that are not there yet; a name alone is beside the notebook. What is wrong is said."""
        try:
            file = Path(path).expanduser()
            if file.is_file() and file.stat().st_size > MOST_BYTES:
                raise ValueError(f"{file} is larger than 1 MB: rank it in a cell, bench.rank_many(pathlib.Path({str(file)!r}), metric)")
            lines = [line for line in split_lines(read_text(file)) if line.strip()]
        except (ValueError, OSError) as error:
            return self.set_trait("loaded", f"⚠ {visible(str(error))}")
        before = [line for line in split_lines(self.text) if line.strip()]
        fresh = [line for line in dict.fromkeys(lines) if line not in before]
        self.text = "\n".join([*before, *fresh])
        were = f", {len(lines) - len(fresh):,} were there" if len(lines) > len(fresh) else ""
        self.set_trait("loaded", f"{len(fresh):,} of {len(lines):,} lines of {visible(file.name)} added{were}")

    def work(self, job: Job) -> None:
        """Ranks what is not ranked yet, and shows the means as they come."""
        bench, typed = self._bench, self._typed
        asked = read_lines(bench.model, *typed)
        rankings, shown_at = [], time.monotonic()

        def show() -> None:
            batch = RankingBatch(list(rankings))
            if rankings:
                len(batch.table)  # made here, where the page need not wait for it
            with SETTING:
                if rankings and (self._job is job or not job.is_cancelled):
                    self._batches[bench.sae_name] = typed, batch
                    self._show_batch()

        known = {}
        for i, line in enumerate(asked):
            name = bench.sae_name, line._replace(number=0)
            try:
                ranking = self._known.get(name) or self._ranked(bench, line, job, i, len(asked))
            except ValueError as error:
                show()
                raise ValueError(f"line {line.number}: {error}") from None
            if ranking is None:  # cancelled within it
                break
            rankings.append(ranking)
            known[name] = ranking
            job.report(i + 1, len(asked))
            if time.monotonic() - shown_at > SHOWN_AGAIN and i + 1 < len(asked):
                show()
                shown_at = time.monotonic()
            if job.is_cancelled:
                break
        self._known = {**known} if len(rankings) == len(asked) else {**self._known, **known}
        show()

    @staticmethod
    def _ranked(bench: Any, line: Line, job: Job, done: int, total: int) -> FeatureRanking | None:
        answer: Any = line.answer or int(last_logits(bench.model, to_tokens(bench.model, line.prompt))[0].argmax())
        found = Measurement(bench.model, bench.sae, line.prompt, logit_diff(answer, line.baseline or None))
        found.measure(progress=False, cancel=job.event, on_batch=lambda n: job.report(done, total))
        return None if job.is_cancelled else as_ranking(bench, found)

    def _show_batch(self) -> None:
        batch = self.batch
        self._rows = None if batch is None else Rows(batch.table)
        self.set_trait("code", "" if batch is None else script(self._bench, self.to_python()))
        self._show_stale()
        self._turn()
        self._show_each()

    @traitlets.observe("sort_by", "is_descending", "query", "page", "page_size")
    def _turn(self, change: Any = None) -> None:
        batch, rows = self.batch, self._rows
        if batch is None or rows is None:
            return self.set_trait("view", {})
        try:
            cut = self._cut()
        except QueryError as error:
            return self.set_trait("view", {**self.view, "message": str(error)})
        scales = {name: rows.largest(name) for name in ("activation", "attribution", "effect", "low", "high")}
        notes = [visible(note) for note in batch.notes]
        asked = self._batches[self._bench.sae_name][0]
        n_asked = n_questions(asked[0])  # more than there are prompts until all are ranked, or where not all were
        self.set_trait("view", {**cut, "scales": scales, "n_prompts": len(batch.rankings), "n_asked": n_asked, "notes": notes})

    @traitlets.observe("feature")
    def _show_each(self, change: Any = None) -> None:
        batch = self.batch
        if batch is None or self.feature is None:
            return self.set_trait("each", {})
        rows = [
            {name: plain(value) for name, value in row.items()} | {"prompt": visible(row["prompt"])[-MOST_LETTERS:]}
            for row in batch.on_each(self.feature).to_dict("records")
        ]
        label = visible(str(self._bench.labels.get(self.feature, "")))
        self.set_trait("each", {"feature": self.feature, "label": label, "rows": rows})

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        said = content if isinstance(content, dict) else {}
        if said.get("do") == "load" and isinstance(said.get("path"), str):
            self.load(said["path"])
        elif said.get("do") == "ask" and isinstance(said.get("at"), int):
            self.ask(said["at"])
        else:
            super()._hear(_, content, buffers)

    def ask(self, at: int) -> None:
        """One of the prompts, as the question above."""
        if self.batch is not None and 0 <= at < len(self.batch.rankings):
            one = self.batch.rankings[at]
            with SETTING:
                self._first.recall(Question(self._bench.sae_name, one.prompt, one.answer, one.baseline))
                if not self._first.ranked or self._first.question_ranked != self._first.question:
                    self._first.run()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also ranks anew."""
        super().restore(state)
        if self.text.strip():
            self.run()

    def to_python(self) -> str:
        """What is shown, in a cell."""
        if self.batch is None:
            return ""
        asked = [
            (each.prompt, f"wb.logit_diff({', '.join(map(repr, filter(None, (each.answer, each.baseline))))})")
            for each in self.batch.rankings
        ]
        prompts = "".join(f"    {prompt!r},\n" for prompt, _ in asked)
        same = len({metric for _, metric in asked}) == 1
        metric = asked[0][1] if same else "[\n" + "".join(f"    {each},\n" for _, each in asked) + "]"
        return f"prompts = [\n{prompts}]\nmetric = {metric}\nbatch = bench.rank_many(prompts, metric)\nbatch.table"

    def static_html(self) -> str:
        return "" if self.batch is None else means_html(self.batch, *self.shown())

    def __repr__(self) -> str:
        return "BatchPane: nothing ranked" if self.batch is None else f"BatchPane: {len(self.batch.rankings)} prompts together"
