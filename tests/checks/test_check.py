"""Every verdict of every check, where it must be given: on models made so that the truth is known, or with one thing put wrong."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from made_models import D_MODEL, SIZES, TEXT, n_hooks, random_hf_model, random_sae
from made_tokenizers import byte_tokenizer, words_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

import workbench as wb
from workbench.checks import check as checking
from workbench.checks import dictionary, effects, passes
from workbench.checks.report import CheckReport, Finding, Verdict
from workbench.model.cache import KVCache
from workbench.model.model import load_model
from workbench.model.start import start_token
from workbench.sae.sae import SAE

TEXTS = [TEXT] * 20
PAD = dict(pad_token_id=1)


def looked(model: Any, sae: Any = None, texts: Any = TEXTS, **options: Any) -> CheckReport:
    return wb.check(model, sae, texts, seconds=0.0, progress=False, **options)


def row(report: CheckReport, check: str) -> pd.Series:
    return report.table.set_index("check").loc[check]


def one(check: str, model: Any, sae: Any = None, texts: Any = TEXTS, **options: Any) -> pd.Series:
    """One row, without the others' cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "CHECKS", {name: each for name, each in checking.CHECKS.items() if name == check})
        if check != "SAE explains":
            patch.setattr(dictionary, "explains", lambda *_, **__: Finding(Verdict.ok, "", "not asked"))
        return row(looked(model, sae, texts, **options), check)


def verdicts(report: CheckReport) -> dict[str, str]:
    return report.table.set_index("check")["verdict"].to_dict()


@pytest.fixture(scope="module")
def atlas() -> wb.Workbench:
    return wb.load("atlas")


@pytest.fixture(scope="module")
def of_atlas(atlas: wb.Workbench) -> CheckReport:
    return wb.check(atlas, progress=False)


def positional(tokenizer: Any) -> torch.nn.Module:
    """It says "a" and "b" in turn, by the position alone: any token more in front of a text, and each of them is wrong."""
    n = len(tokenizer)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=n, n_embd=n, n_layer=1, n_head=1, n_positions=64)).eval()
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    with torch.no_grad():
        for weight in model.transformer.h.parameters():
            weight.zero_()
        model.transformer.wte.weight.copy_(torch.eye(n))
        model.transformer.wpe.weight.zero_()
        model.transformer.wpe.weight[0::2, b] = 50.0
        model.transformer.wpe.weight[1::2, a] = 50.0
    return model


def test_of_the_atlas_everything_is_ok_and_it_is_read_as_its_files_promise(of_atlas: CheckReport):
    assert of_atlas.verdict == "ok" and list(of_atlas.table["check"]) == [*checking.CHECKS, "SAE fits", "SAE explains"]
    assert "the atlas's own texts" in row(of_atlas, "text")["meaning"]
    assert re.match(r"prefix: [\d,]+ rows a second, [\d.]+ × whole passes", row(of_atlas, "speed")["figure"])
    assert "promised" in row(of_atlas, "SAE explains")["figure"] and of_atlas.summary() == "11 ok"


def test_a_random_model_is_fine_but_for_what_it_does_not_know(folder_of: Callable[[str], Path]):
    report = wb.check(folder_of("llama"), seconds=0.0, progress=False)
    assert report.verdict == "warning" and {check: verdict for check, verdict in verdicts(report).items() if verdict != "ok"} == {
        "text": "warning",
        "start token": "note",
    }
    assert "text drawn from the model itself" in row(report, "text")["meaning"]
    assert row(report, "model")["figure"].startswith("LlamaForCausalLM, 4 layers × 32, float32; BPE tokenizer")


def test_a_tokenizer_with_an_end_token_only_gets_no_start_token():
    model = load_model(random_hf_model("neox"), tokenizer=byte_tokenizer(("<end>",), eos_token="<end>"))
    found = one("start token", model)
    assert found["verdict"] == "ok" and found["figure"].startswith("none: loss ") and "'<end>'" in found["figure"]
    assert "name none" in found["meaning"]


def test_a_start_token_that_ruins_the_model_is_a_warning_with_what_to_type():
    tokenizer = byte_tokenizer(("<s>", "</s>"), bos_token="<s>", eos_token="</s>")
    model = load_model(positional(tokenizer), tokenizer=tokenizer)
    assert start_token(model).text == "<s>"
    found = one("start token", model, texts=["ab" * 20])
    assert found["verdict"] == "warning" and "start_token=None" in found["meaning"] and "perplexity is 1 instead of" in found["meaning"]
    right = one("start token", model, texts=["ab" * 20], start_token=None)
    assert right["verdict"] == "ok" and right["figure"].startswith("none: loss 0.000")


def test_a_start_token_that_is_a_little_worse_is_a_note(model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking.reading, "mean_loss", lambda model, rows, start: 2.0 if start else 1.8)
    assert one("start token", model)["verdict"] == "note"


def test_unknown_tokens_are_an_error_where_all_are_and_a_warning_from_one_in_a_hundred():
    sizes = {**SIZES, "vocab_size": 16, **PAD}
    hf_model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**sizes))
    model = load_model(hf_model, tokenizer=words_tokenizer())
    found = one("unknown tokens", model, texts=["мир труд май"] * 9)
    assert found["verdict"] == "error" and "100.0% of 27 tokens" in found["figure"]
    some = one("unknown tokens", model, texts=["the cat. the май"])
    assert some["verdict"] == "warning" and some["figure"].startswith("20.0% of 5 tokens of your texts")
    assert one("unknown tokens", model, texts=["the cat. the cats."] * 9)["verdict"] == "ok"
    english = one("unknown tokens", model, texts=None)
    assert english["verdict"] == "warning" and "a small English text" in english["figure"]


def test_a_text_that_is_no_better_than_guessed_is_a_warning_and_measured_all_the_same(model):
    found = one("text", model)
    assert found["verdict"] == "warning" and "your texts no better than by guessing" in found["meaning"] and "drawn" not in found["meaning"]
    tokenizer = byte_tokenizer(("<s>",), bos_token="<s>")
    assert one("text", load_model(positional(tokenizer), tokenizer=tokenizer, start_token=None), texts=["ab" * 20])["verdict"] == "ok"
    assert one("text", model, texts=["a"])["verdict"] == "note"


def test_weights_that_are_not_numbers_are_an_error(tokenizer):
    hf_model = random_hf_model("gpt2")
    hf_model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = torch.nan
    found = one("text", load_model(hf_model, tokenizer=tokenizer))
    assert found["verdict"] == "error" and "not numbers" in found["meaning"]


@pytest.mark.parametrize(("n", "sentence"), [(9, "Is it the model's own?"), (400, "have no row in the embedding")])
def test_a_tokenizer_of_another_size_is_a_warning(n: int, sentence: str):
    made = Tokenizer(models.WordLevel({"<unk>": 0} | {str(i): i for i in range(1, n)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    found = one("model", load_model(random_hf_model("gpt2"), tokenizer=tokenizer), texts=["1 2 3 4"] * 5)
    assert found["verdict"] == "warning" and sentence in found["meaning"]


@pytest.mark.parametrize(
    "config",
    [
        transformers.OPTConfig(**(SIZES | PAD), ffn_dim=64, word_embed_proj_dim=D_MODEL),
        transformers.GPTJConfig(
            vocab_size=300, n_embd=32, n_layer=4, n_head=4, rotary_dim=8, n_positions=64, bos_token_id=0, eos_token_id=0
        ),
    ],
    ids=["opt", "gptj"],
)
def test_places_where_edits_are_ignored_are_named(config: Any, tokenizer):
    hf_model = transformers.AutoModelForCausalLM.from_config(config)
    model = load_model(hf_model, tokenizer=tokenizer)
    found = one("hook points", model)
    assert found["verdict"] == "warning" and "ignored: blocks.2.attn.hook_attn_scores, blocks.2.attn.hook_pattern" in found["meaning"]
    assert one("effects", model)["verdict"] == "ok"


def test_a_residual_stream_that_no_sae_can_read_is_an_error(model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "obeyed", lambda model, name: not name.endswith(passes.RESIDUAL))
    found = one("hook points", model)
    assert found["verdict"] == "error" and "No SAE can read this model's residual stream" in found["meaning"]


def test_a_cache_that_is_not_used_is_a_note_and_one_that_is_wrong_an_error(model, monkeypatch: pytest.MonkeyPatch):
    assert one("KV cache", model)["verdict"] == "ok"
    right = passes.cached_step
    monkeypatch.setattr(passes, "cached_step", lambda model, tokens, cache: right(model, tokens, None))  # it forgets what came before
    assert one("KV cache", model)["verdict"] == "error"
    monkeypatch.setattr(passes, "kv_cache", lambda model: KVCache(why_not="it has none"))
    found = one("KV cache", model)
    assert found["verdict"] == "note" and "it has none" in found["meaning"]


def test_half_precision_is_a_note_with_what_it_costs_and_quantization_a_warning(folder_of, model, monkeypatch: pytest.MonkeyPatch):
    report = looked(load_model(folder_of("gpt2"), dtype=torch.bfloat16))
    found = row(report, "precision")
    assert found["verdict"] == "note" and "bfloat16" in found["meaning"] and re.search(r"[\d.]+% off", found["figure"])
    assert row(report, "effects")["verdict"] == "ok" and row(report, "KV cache")["verdict"] == "ok"
    monkeypatch.setattr(passes, "precision_note", lambda model: "Some weights are quantized.")
    assert one("precision", model)["verdict"] == "warning"


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "ok"), (1.005, "warning"), (1.05, "error"), (torch.nan, "error")])
def test_effects_that_are_not_the_definitions_are_seen(model, sae, monkeypatch: pytest.MonkeyPatch, factor: float, verdict: str):
    right = effects.ablate
    monkeypatch.setattr(effects, "ablate", lambda *args, **options: factor * right(*args, **options))
    assert one("effects", model, sae)["verdict"] == verdict


def test_an_sae_of_which_nothing_is_active_cannot_be_ranked_and_explains_nothing(model, sae):
    sae.b_enc.data -= 1e4
    report = looked(model, sae)
    assert verdicts(report)["effects"] == verdicts(report)["SAE explains"] == "warning"
    assert "No feature is active on any token" in row(report, "SAE explains")["meaning"]


def test_where_nothing_has_an_effect_that_is_said(model, monkeypatch: pytest.MonkeyPatch):
    right = effects.by_definition
    monkeypatch.setattr(effects, "by_definition", lambda *args: (right(*args)[0], 1e9))
    assert one("effects", model)["verdict"] == "note"


def test_a_model_whose_rows_need_whole_passes_is_slow_and_says_why(model):
    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", lambda x, hook: None)]):
        found = one("speed", model)
    assert found["verdict"] == "note" and found["figure"] == "forward" and "other hooks are installed" in found["meaning"]


def test_an_sae_is_asked_for_by_its_name_and_may_be_of_16_bits(atlas):
    for model in ("atlas", atlas):
        found = row(looked(model, "1k", None), "SAE fits") if model == "atlas" else one("SAE explains", model, "1k", None)
        assert found["verdict"] == "ok" and ("1,024 features" in found["figure"] or "fvu" in found["figure"])
    half = SAE.load(wb.atlas.layers.WEIGHTS / "sae_1k").bfloat16()
    found = one("SAE explains", atlas, half, None)
    assert found["verdict"] == "ok" and "fvu" in found["figure"]


def test_an_sae_scaled_by_three_is_a_warning_that_says_so(atlas):
    sae = SAE.load(wb.atlas.layers.WEIGHTS / "sae_1k").fold_scale(3.0)
    found = one("SAE explains", atlas, sae, None)
    assert found["verdict"] == "warning"
    assert 1 / 3 / 1.5 < float(re.search(r"Read with scale=([\d.]+)", found["meaning"])[1]) < 1.5 / 3


def test_an_sae_of_another_place_is_a_warning_that_says_which(atlas):
    sae = SAE.load(wb.atlas.layers.WEIGHTS / "sae_1k", hook_name="blocks.1.hook_resid_post")
    found = one("SAE explains", atlas, sae, None)
    assert found["verdict"] == "warning" and re.search(r"blocks\.(2\.hook_resid_post|3\.hook_resid_pre)", found["meaning"])


def test_an_sae_of_another_model_is_a_warning_and_one_of_another_width_an_error(model, sae, atlas):
    found = one("SAE explains", model, sae)
    assert found["verdict"] == "warning" and "further off than the mean would be" in found["meaning"]
    report = looked(model, atlas.sae)
    assert row(report, "SAE fits")["verdict"] == "error" and "reads 160 numbers" in row(report, "SAE fits")["meaning"]
    assert "SAE explains" not in verdicts(report) and row(report, "effects")["verdict"] == "ok"


def test_an_sae_that_misses_what_it_promised_is_said(atlas, monkeypatch: pytest.MonkeyPatch):
    cfg, right, measured = atlas.sae.cfg, dictionary.evaluate, []

    def once(*args: Any, **options: Any) -> Any:  # the same weights on the same texts, whatever they promise
        return measured[0] if measured else measured.append(right(*args, **options)) or measured[0]

    monkeypatch.setattr(dictionary, "evaluate", once)

    def promising(**metadata: Any) -> pd.Series:
        sae = SAE(wb.SAEConfig(cfg.d_in, cfg.d_sae, cfg.hook_name, metadata=dict(metadata)))
        sae.load_state_dict(atlas.sae.state_dict())
        return one("SAE explains", atlas, sae.requires_grad_(False), None)

    assert promising(fvu=0.028, l0=17)["verdict"] == "ok"
    assert promising(fvu=0.005)["verdict"] == "note"
    assert "Far more features" in promising(l0=2)["meaning"]
    assert re.search("(another|made with the) start token", promising(start_token="<s>")["meaning"])


@pytest.mark.parametrize(("fvu", "verdict"), [(0.3, "ok"), (0.6, "note"), (1.2, "warning")])
def test_an_sae_without_promises_is_judged_by_what_it_explains(atlas, monkeypatch: pytest.MonkeyPatch, fvu: float, verdict: str):
    right, sae = dictionary.evaluate, SAE.load(wb.atlas.layers.WEIGHTS / "sae_1k")
    sae.cfg = replace(sae.cfg, metadata={})
    monkeypatch.setattr(dictionary, "evaluate", lambda *args, **options: replace(right(*args, **options), fvu=fvu))
    assert one("SAE explains", atlas, sae, None)["verdict"] == verdict


def test_a_model_or_an_sae_that_cannot_be_loaded_is_a_row(model, tmp_path: Path):
    report = looked(tmp_path)
    assert report.verdict == "error" and list(report.table["check"]) == ["model"] and "config.json is missing" in report.table["meaning"][0]
    report = looked(model, tmp_path / "nope")
    assert row(report, "SAE fits")["verdict"] == "error" and "no such folder" in row(report, "SAE fits")["meaning"]
    assert one("model", model, start_token="<nope>")["verdict"] == "error"


def test_what_a_check_raises_is_one_line_and_the_others_go_on(model, monkeypatch: pytest.MonkeyPatch):
    def broken(subject: Any) -> Finding:
        raise RuntimeError("it broke\nin two lines")

    monkeypatch.setattr(checking, "CHECKS", {**checking.CHECKS, "precision": broken})
    report = looked(model)
    found = row(report, "precision")
    assert found["verdict"] == "error" and found["meaning"] == "This could not be measured: RuntimeError: it broke in two lines"
    assert row(report, "effects")["verdict"] == "ok" and "Traceback" not in repr(report)


def test_ctrl_c_leaves_no_hook_and_the_start_token_as_it_was(model, monkeypatch: pytest.MonkeyPatch):
    def stopped(x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    before, n = start_token(model), n_hooks(model)
    right = effects.seen
    monkeypatch.setattr(effects, "seen", lambda model, name, replace: right(model, name, stopped))
    with pytest.raises(KeyboardInterrupt):
        looked(model)
    assert n_hooks(model) == n and start_token(model) == before


def test_texts_that_are_none_are_refused_at_once(model, tmp_path: Path):
    with pytest.raises(ValueError, match="no such file or folder"):
        looked(model, texts=tmp_path / "nope.txt")
    with pytest.raises(ValueError, match="hold no text"):
        looked(model, texts=[" ", ""])


def test_a_report_shows_itself_as_text_table_and_page(tmp_path: Path):
    rows = [(f"row {v}", Finding(Verdict(v), "<b>1</b>", f"what {v} means")) for v in Verdict]
    report = CheckReport.of(rows, "<i>mine</i>")
    assert report.verdict == "error" and report.summary() == "1 error, 1 warning, 1 note, 1 ok"
    html, page = report._repr_html_(), report.to_html(tmp_path / "check.html").read_text()
    for each in (html, page):
        assert "<i>mine</i>" not in each and "<b>1</b>" not in each and "what warning means" in each
    assert repr(report).splitlines()[0] == "CheckReport of <i>mine</i>: 1 error, 1 warning, 1 note, 1 ok"


def test_random_saes_are_random(model):
    """What the tests above call an SAE of another model is one: its features fire and explain nothing."""
    assert wb.evaluate(model, random_sae(), TEXTS, progress=False).fvu > 1
