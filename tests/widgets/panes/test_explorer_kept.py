"""What is kept of an explorer: a state that restores it, code that computes it, a page that stands without scripts."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_models import TEXT, random_sae
from made_transcoders import made_set
from pandas.testing import assert_frame_equal

from widgets import Explorer
from widgets.panes.screen.loading import loading, script
from workbench.bench import Workbench
from workbench.benches import load
from workbench.features.index.examples import Examples
from workbench.features.index.index import build_index
from workbench.features.index.parts import Label
from workbench.sae.transcoder import load_dictionary


def test_the_state_is_json_and_restores_every_pane(explorer: Explorer, bench: Workbench):
    explorer.pane["ranking"].query, explorer.pane["finder"].positive, explorer.tab = "effect>0", ["the cat"], "finder"
    feature, pos = (int(explorer.pane["ranking"].ranking.table[name].iloc[3]) for name in ("feature", "pos"))
    explorer.pane["ranking"].set_state({"feature": feature, "pair": [feature, pos]})  # the row that was clicked
    state = json.loads(explorer.facts)
    assert state["panes"]["attention"]["pos"] == pos
    assert state == json.loads(json.dumps(explorer.state()))
    other = Explorer(bench)
    other.restore(state)
    other.pane["prompt"]._job.wait(60)
    assert other.state() == explorer.state() and other.pane["ranking"].view == explorer.pane["ranking"].view
    with pytest.raises(ValueError, match="no pane 'nonsense'"):
        other.restore({"panes": {"nonsense": {}}})


def test_the_code_is_python_that_ranks_and_restores(explorer: Explorer):
    explorer.feature = 3
    for line in ("ranking = bench.rank('the cat sat on the', wb.logit_diff(' mat', ' dog'))", "bench.feature(3)", "explorer.restore({"):
        assert line in explorer.code
    assert "bench = wb.Workbench(model=model, sae=sae, index=index, saes=saes, labels={3: 'three'})  # as you made them" in explorer.code
    compile(explorer.code, "code", "exec")


def test_the_code_runs_for_a_model_of_ones_own(folders: tuple[Path, Path], tmp_path: Path):
    texts = ["Fact: The capital of the state", "Kobe Bryant played basketball"]
    made = load(str(folders[0]), sae=folders[1], start_token=None)
    index = build_index(made.model, made.sae, texts, tmp_path / "index", progress=False)
    saes = {"mine": made.sae, "again": load_dictionary(folders[1])}
    explorer = Explorer(replace(made, index=index, saes=saes, name="a title, and no model's name"))
    explorer.pane["prompt"].prompt = "Fact: The capital of the"
    explorer.pane["prompt"].answer = " state"
    explorer.pane["prompt"].run().wait(60)
    known: dict[str, Any] = {}
    exec(explorer.to_python(), known)
    assert list(known["bench"].saes) == ["mine", "again"] and known["bench"].sae_name == "mine"
    assert known["bench"].index.folder == index.folder and known["ranking"].start_token == ""
    assert_frame_equal(known["ranking"].table, explorer.pane["ranking"].ranking.table, rtol=1e-5, atol=1e-5)  # two runs: but for rounding
    known["explorer"].close()
    explorer.close()


@pytest.mark.parametrize("is_among", [True, False])
def test_code_of_several_saes_has_those_too_that_came_from_no_file(folders: tuple[Path, Path], is_among: bool):
    loaded = load(str(folders[0]), sae=folders[1])
    made = random_sae(loaded.sae.cfg.hook_name, loaded.sae.cfg.d_in)
    saes = {"mine": loaded.sae} if is_among else {"again": load_dictionary(folders[1])}
    bench = replace(loaded, saes={**saes, "made": made})
    known: dict[str, Any] = {"sae": made}
    exec(script(bench), known)
    assert list(known["bench"].saes) == list(bench.saes) and known["bench"].saes["made"] is made
    assert known["bench"].sae_name == bench.sae_name and torch.equal(known["bench"].sae.W_dec, bench.sae.W_dec)


def test_the_code_holds_all_that_a_bench_was_made_of(model):
    """Not the dictionary alone: a circuit needs those of the other layers, and a feature's page the examples."""
    transcoders = made_set("mlp.hook_in", "hook_mlp_out", has_skip=False)
    layers = {name: random_sae(name) for name in ("blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre")}
    sae = layers["blocks.1.hook_resid_pre"]
    known: dict[str, Any] = dict(model=model, sae=sae, layers=layers, transcoders=transcoders, examples=Examples(model, sae, [TEXT]))
    made = Workbench(**known)
    for bench in (made, made.with_transcoder(2), replace(made, transcoders={})):
        exec("\n".join(["import workbench as wb", *loading(bench)]), space := known | {"examples": bench.examples})
        again = space["bench"]
        assert all(getattr(again, part) is getattr(bench, part) for part in ("model", "sae", "layers", "examples"))
        assert again.transcoders.keys() == bench.transcoders.keys()


def test_the_code_holds_the_labels_that_were_given(model, folders: tuple[Path, Path], tmp_path: Path):
    loaded, many = load(str(folders[0]), sae=folders[1]), {feature: f"label {feature}" for feature in range(30)}
    index = build_index(loaded.model, loaded.sae, ["Kobe Bryant played"], tmp_path / "index", progress=False)
    index.save_labels({i: Label(text, 0.5, "a model") for i, text in many.items()})
    made = Workbench(model=model, sae=random_sae())
    for bench in (loaded, replace(loaded, index=index), made):
        for labels in ({3: "what it's about"}, many, index.label_texts()):
            given = replace(bench, labels=labels)
            exec(script(given), space := {"model": model, "sae": made.sae, "labels": labels})
            assert dict(space["bench"].labels) == labels
    assert "index.label_texts()" in script(replace(loaded, index=index, labels=index.label_texts()))
    made.labels.known[np.int64(5)] = "NumPy's"  # as without the checks of annotations that pytest makes
    assert 'labels={5: "NumPy\'s"}' in script(made)


def test_the_code_of_transcoders_without_an_sae_loads_them(model):
    transcoders = made_set("mlp.hook_in", "hook_mlp_out", has_skip=False)
    exec(script(load(model, transcoders=transcoders)), space := {"model": model, "transcoders": transcoders})
    assert space["bench"].transcoders[1].fingerprint() == transcoders[1].fingerprint()


def test_the_code_of_a_transcoder_of_the_atlas_looks_through_it():
    bench = load("atlas")
    exec("\n".join(["import workbench as wb", *loading(bench.with_transcoder(2))]), space := {})
    assert space["bench"].sae.fingerprint() == bench.transcoders[2].fingerprint()


def test_a_state_with_a_map_restores_where_no_map_is_drawn_yet(explorer: Explorer, bench: Workbench, monkeypatch):
    table = pd.DataFrame(
        [("a", i, 0.1 * i, 0.2 * i, 0, 0.1, "") for i in range(9)], columns="sae feature x y cluster density label".split()
    )
    monkeypatch.setattr(Workbench, "map", lambda self: SimpleNamespace(table=table))
    explorer.tab = "map"
    explorer._drawing.wait(60)
    explorer.pane["map"].query = "cats"
    other = Explorer(bench)
    other.restore(explorer.state())
    assert other.state()["panes"]["map"] == explorer.state()["panes"]["map"]  # kept, drawn or not
    other._drawing.wait(60)
    assert other.pane["map"].query == "cats"


def test_a_saved_file_holds_the_pages_of_the_ranked_features(explorer: Explorer):
    pages = explorer.pane["card"].offline()["pages"]
    assert list(pages)[:5] == explorer.pane["ranking"].ranking.table["feature"].drop_duplicates().tolist()[:5]


def test_beside_the_live_view_stand_a_static_page_and_a_stable_text(explorer: Explorer):
    explorer.feature = 3
    bundle, _ = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == "Explorer: 'the cat sat on the', feature 3"
    assert "Why “mat” rather than “dog”?" in bundle["text/html"] and "<script" not in bundle["text/html"]


def test_code_holds_a_search_only_while_what_was_found_answers_what_is_typed(explorer: Explorer):
    """Words taken out again, or the way changed: what is typed then may be nothing to search with, and the code would not run."""
    finder = explorer.pane["finder"]
    finder.positive = ["the cat"]
    finder.run().wait(60)
    assert "found = bench.find(" in explorer.to_python()
    finder.way = "label"
    assert finder.found is not None and "found = " not in explorer.to_python()
    finder.way = "prompts"
    assert "found = bench.find(" in explorer.to_python()
