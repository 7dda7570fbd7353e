"""The question: a prompt, an answer and a baseline; its tokens and the model's next tokens as one types; its features, ranked.

    pane = PromptPane(bench, prompt="Fact: The capital of …", answer=" Sacramento", baseline=" Albany")
    pane.run()          attributions first, then the effects, largest |attribution| first; pane.cancel() keeps what was measured
    pane.ranking        the FeatureRanking so far

What is wrong with a prompt or an answer is said as it is typed. Model work runs in jobs: nothing waits for it.
"""

import time
from contextlib import suppress
from typing import Any, NamedTuple

import torch
import traitlets

from widgets.marks import visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from workbench import atlas
from workbench.circuits.metrics import Metric, logit_diff
from workbench.circuits.ranking.measurement import Measurement
from workbench.circuits.ranking.ranking import as_ranking
from workbench.model.hooks import last_logits
from workbench.model.tokens import answer_token, to_str_tokens, to_tokens

N_NEXT = 8  # tokens offered
N_CHIPS = 256  # tokens drawn of a long prompt
SHOWN_AGAIN = 0.3  # seconds between two states of a ranking that is being measured, at least
N_KEPT = 50  # rankings that can be returned to
SHARE = 4  # and so many times what showing one took: a large ranking must not spend its time being drawn


class Question(NamedTuple):
    """As it was asked: an empty answer is the model's first, an empty baseline the mean logit."""

    sae: str
    prompt: str
    answer: str
    baseline: str


def as_typed(bench: Any, answer: str | Metric, baseline: str) -> tuple[str, str]:
    """Answer and baseline as they are typed; a metric says both. Raises ValueError for what is neither text nor metric."""
    if isinstance(answer, Metric):
        if baseline:
            raise ValueError(f"the metric says what its answer is compared with: leave baseline={baseline!r} out")
        names = answer.resolve(bench.model).names(bench.model)
        return names[0], "" if answer.baseline is None else names[1]
    for name, text in (("answer", answer), ("baseline", baseline)):
        if not isinstance(text, str):
            raise ValueError(f"{name}={text!r}: expected one token as text, such as ' Sacramento', or a metric for both")
    return answer, baseline


class PromptPane(WorkingPane):
    """A prompt, its tokens and the model's next tokens as they are typed; Enter ranks its features, effects as they are measured."""

    _esm = module("prompt/prompt")
    _css = style("prompt/prompt")

    prompt = traitlets.Unicode("").tag(sync=True)
    answer = traitlets.Unicode("", help="one token; empty: the model's first").tag(sync=True)
    baseline = traitlets.Unicode("", help="one token; empty: the mean logit").tag(sync=True)
    sae = traitlets.Unicode("", help="its name among the bench's").tag(sync=True)
    saes = traitlets.List(read_only=True).tag(sync=True)  # [name, what it is]
    tokens = traitlets.List(read_only=True).tag(sync=True)
    n_tokens = traitlets.Int(0, read_only=True).tag(sync=True)
    next_tokens = traitlets.List(read_only=True).tag(sync=True)  # {"token", "probability"}, the most probable first
    problems = traitlets.Dict(read_only=True).tag(sync=True)  # "prompt", "answer" or "baseline" → what is wrong with it
    ranking = traitlets.Any(None, help="a FeatureRanking, or None")
    ranked = traitlets.Dict(read_only=True, help="the question that `ranking` answers").tag(sync=True)
    standing = traitlets.Dict(read_only=True, help="where the answer stands in what the model would say itself").tag(sync=True)
    examples = traitlets.List(read_only=True, help="questions to begin with: what about, prompt, answer, baseline").tag(sync=True)
    asked = traitlets.List(read_only=True, help="questions that were ranked, the newest first").tag(sync=True)
    first_look = traitlets.Int(None, allow_none=True, help="tokens from here on tell `looked_at` of a click; None: none").tag(sync=True)
    looked_at = traitlets.Int(None, allow_none=True, help="the position of the token that was clicked last")

    which = traitlets.Unicode("", help="what its boxes are called by, where there are two: Second").tag(sync=True)

    kept = ("sae", "prompt", "answer", "baseline", "feature")
    maker = "PromptPane(bench)"
    actions = ("run", "cancel", "rank")
    bench = traitlets.Any()

    def __init__(self, bench: Any, **traits: Any):
        self._asking: Job | None = None
        self._rankings: dict[Question, Any] = {}  # what was measured is kept, the newest last
        self._probabilities: torch.Tensor | None = None  # of the next token
        super().__init__(bench.model, bench=bench, **traits)
        names = dict(bench.saes) or {bench.sae_name: bench.sae}
        self.set_trait("saes", [[name, f"{sae.cfg.d_sae:,} features at {sae.reads}"] for name, sae in names.items()])
        self.sae = self.sae or bench.sae_name
        self.set_trait("examples", [each._asdict() for each in atlas.examples()] if bench.name == "atlas" else [])

    @traitlets.observe("prompt")
    def _read(self, change: Any = None) -> None:
        """The prompt's tokens, or what is wrong with it; then, in a job, what the model would say next."""
        if self._asking is not None:
            self._asking.replace()
        try:
            tokens = to_tokens(self.bench.model, self.prompt)
        except ValueError as error:
            with SETTING:  # a cell may have set the prompt while the job of the one before says what it found
                self._show_tokens([], 0)
                self._say("prompt", str(error) if self.prompt else "")
            return
        with SETTING:
            self._show_tokens(to_str_tokens(self.bench.model, tokens[:, :N_CHIPS]), tokens.shape[1])
            self._say("prompt", "")
        self._asking = Job(lambda job: self._ask(job, tokens), self.bench.model, lambda progress: None)

    @torch.no_grad()
    def _ask(self, job: Job, tokens: torch.Tensor) -> None:
        probabilities = last_logits(self.bench.model, tokens)[0].float().softmax(-1)
        best = probabilities.topk(min(N_NEXT, len(probabilities)))
        texts = to_str_tokens(self.bench.model, best.indices)
        offered = [{"token": text, "probability": round(p, 4)} for text, p in zip(texts, best.values.tolist(), strict=True)]
        with SETTING:
            if not job.is_cancelled:
                self._probabilities = probabilities
                self.set_trait("next_tokens", offered)
                self._stand()

    @traitlets.observe("answer")
    def _stand(self, change: Any = None) -> None:
        """Is the answer what the model says itself?"""
        found: dict[str, Any] = {}
        known, offered = self._probabilities, self.next_tokens  # a cell that sets the prompt takes them away, maybe meanwhile
        if self.answer and offered and known is not None and not self.problems.get("answer"):
            with suppress(ValueError):  # which _check explains
                p = float(known[answer_token(self.bench.model, self.answer)])
                rank = int((known > p).sum()) + 1
                found = {"token": self.answer, "probability": p, "rank": rank, "first": offered[0]}
        self.set_trait("standing", found)

    @traitlets.observe("answer", "baseline")
    def _check(self, change: Any) -> None:
        """A word that is a token only with its leading space gets it; what is no single token is explained."""
        typed, problem = change["new"], ""
        if typed:
            try:
                setattr(self, change["name"], one_token(self.bench.model, typed))
            except ValueError as error:
                problem = str(error)
        if not problem and self.answer and self.answer == self.baseline:
            problem = "the answer is its own baseline: the difference is always 0"
        self._say(change["name"], problem)

    @traitlets.observe("sae")
    def _look_through(self, change: Any) -> None:
        """Another SAE, with what was ranked of the question through it before."""
        if change["new"] and change["new"] != self.bench.sae_name:
            self.cancel()
            self.bench = self.bench.with_sae(change["new"])
            self._show_ranking(self.question)

    @property
    def question(self) -> Question:
        """What is typed now."""
        return Question(self.sae, self.prompt, self.answer, self.baseline)

    def _show_ranking(self, question: Question) -> None:
        ranking = self._rankings.get(question)
        self.set_trait("ranked", question._asdict() if ranking is not None else {})  # first: who sees the ranking asks whose it is
        self.ranking = ranking

    def recall(self, question: Question) -> None:
        """A question that was asked before, with what was measured of it. Nothing is measured anew."""
        self.keep_draft()
        if question.sae in dict(self.saes):
            self.sae = question.sae
        self.prompt, self.answer, self.baseline = question[1:]
        if self._rankings.get(question) is not None:
            self.cancel()
            self._show_ranking(question)

    def keep_draft(self) -> bool:
        """What is typed and was not asked yet can be returned to as well. Was there anything?"""
        is_draft = bool(self.prompt.strip()) and self.question not in self._rankings
        if is_draft:
            self._keep(self.question, None)
        return is_draft

    @property
    def question_ranked(self) -> Question:
        """What `ranking` answers."""
        return Question(**self.ranked)

    def rank(self) -> None:
        """Ranks where nothing was ranked yet."""
        if self.ranking is None and self.prompt.strip():
            self.run()

    def relabel(self) -> None:
        """The features of what is shown, called as they are now."""
        if self.ranking is not None:
            self.ranking = self.ranking.relabeled(self.bench.labels)

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        at = content.get("at") if isinstance(content, dict) else None
        if isinstance(at, int) and content.get("do") == "look" and 0 <= at < self.n_tokens:
            self.looked_at = None  # the same token again is a click, too
            self.looked_at = at
        elif isinstance(at, int) and content.get("do") == "recall" and 0 <= at < len(self.asked):
            with SETTING:
                self.recall(Question(**self.asked[at]))
        elif isinstance(at, int) and content.get("do") == "try" and 0 <= at < len(self.examples):
            with SETTING:
                self.recall(Question(self.sae, *(self.examples[at][name] for name in ("prompt", "answer", "baseline"))))
                if not self.ranked or Question(**self.ranked) != self.question:
                    self.run()
        else:
            super()._hear(_, content, buffers)

    def run(self) -> Job | None:
        """Start to rank, in place of what is being ranked; None, and a word in `problems`, where something is wrong."""
        if not self.prompt.strip():
            self._say("prompt", "the prompt is empty: expected some text to predict the next token of")
        if any(self.problems.values()):
            return None
        return super().run()

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        super().close()

    def work(self, job: Job) -> None:
        bench, question = self.bench, self.question
        _, prompt, answer, baseline = question
        if not answer:
            answer = int(last_logits(bench.model, to_tokens(bench.model, prompt))[0].argmax())
        found = Measurement(bench.model, bench.sae, prompt, logit_diff(answer, baseline or None))
        shown_at, cost = 0.0, 0.0

        def show() -> None:
            nonlocal shown_at, cost
            began = time.monotonic()
            ranking = as_ranking(bench, found)
            with SETTING:
                self._keep(question, ranking)
                if bench is self.bench and not (job.is_cancelled and self._job is not job):  # a newer job's rows stay
                    self.set_trait("ranked", question._asdict())
                    self.ranking = ranking
            shown_at = time.monotonic()
            cost = shown_at - began

        def on_batch(n_measured: int) -> None:
            if time.monotonic() - shown_at > max(SHOWN_AGAIN, SHARE * cost):
                show()
            job.report(n_measured, len(found.pairs))

        show()
        job.report(0, len(found.pairs))
        found.measure(progress=False, cancel=job.event, on_batch=on_batch)
        show()

    def _keep(self, question: Question, ranking: Any) -> None:
        self._rankings.pop(question, None)
        self._rankings[question] = ranking
        for oldest in list(self._rankings)[:-N_KEPT]:
            del self._rankings[oldest]
        self.set_trait("asked", [each._asdict() for each in reversed(self._rankings)])

    def _show_tokens(self, str_tokens: list[str], n_tokens: int) -> None:
        self.set_trait("tokens", [visible(token) for token in str_tokens])
        self.set_trait("n_tokens", n_tokens)
        self._probabilities = None  # of the prompt before
        self.set_trait("standing", {})
        if not str_tokens:
            self.set_trait("next_tokens", [])

    def _say(self, about: str, problem: str) -> None:
        self.set_trait("problems", {**self.problems, about: problem})

    def to_python(self) -> str:
        """The question as it is typed; where that cannot be asked, why, and the one that is shown."""
        problems = [" ".join(problem.split()) for problem in self.problems.values() if problem]
        if not problems:
            return f"ranking = {self.call(self.question)}"
        shown = [f"ranking = {self.call(self.question_ranked)}"] if self.ranked else []
        return "\n".join([f"# What is typed cannot be asked: {problems[0]}", *shown])

    def call(self, question: Question) -> str:
        """What ranks a question."""
        answer = question.answer or (self.next_tokens[0]["token"] if self.next_tokens else "")
        metric = ", ".join(map(repr, [answer, question.baseline] if question.baseline else [answer]))
        return f"bench.rank({question.prompt!r}, wb.logit_diff({metric}))"

    def __repr__(self) -> str:
        return f"PromptPane: {self.prompt!r}, why {self.answer!r} rather than {self.baseline or 'the mean logit'!r}"


def one_token(model: Any, text: str) -> str:
    """The text as one token of the model, with the leading space that most words need. Raises ValueError that explains."""
    try:
        answer_token(model, text)
        return text
    except ValueError:
        spaced = " " + text.strip()
        try:
            answer_token(model, spaced)
        except ValueError:
            pass
        else:
            return spaced
        raise
