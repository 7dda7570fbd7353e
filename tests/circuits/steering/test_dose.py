"""What steering shows: a row for every text, a dose–response table and figure, and nothing that becomes markup."""

import numpy as np
import pytest

from workbench.circuits.steering.continuations import Continuation, Setting, Steering


def made_steering(**changed) -> Steering:
    """Two samples unsteered and at two strengths, made of plain numbers."""
    rows = []
    for setting in (Setting("unsteered"), *(Setting("features", k, {7: k}) for k in (2.0, 10.0)), Setting("vector", 1.5)):
        for sample in (0, 1):
            share = 0.0 if setting.kind == "unsteered" else setting.strength / 10 - 0.1 * sample
            words = [" <b>Gate</b>" if i < 10 * share else " on" for i in range(10)]
            rows.append(Continuation(setting, sample, "".join(words), words, [-0.5] * 10, [share] * 10, {" Gate": share, "\n": 0.1}))
    fields = dict(prompt="We saw the <i>", continuations=rows, max_act={7: 2.0}, labels={7: "<script>bridge"}, tokens=(" Gate",))
    return Steering(**(fields | changed))


def share_of_gates(text: str) -> float:
    return text.count("Gate") / 10


def test_a_dose_table_holds_the_means_over_samples():
    dose = made_steering().dose(share_of_gates).set_index("name")
    assert list(dose.index) == ["unsteered", "7 × 2", "7 × 10", "vector × 1.5"]
    assert dose.loc["7 × 10", "concept"] == pytest.approx(0.95)
    assert dose.loc["7 × 2", "p( Gate)"] == pytest.approx(0.15)
    assert dose.loc["7 × 10", "standard_error"] == pytest.approx(0.05)
    with pytest.raises(ValueError, match="no response to show"):
        made_steering(tokens=()).dose()


def test_the_dose_figure_has_a_line_for_every_response_and_level_lines_for_the_rest():
    figure = made_steering().plot_dose(share_of_gates, "share of gates")
    lines = {trace.name: list(trace.y) for trace in figure.data}
    assert lines["share of gates"] == pytest.approx([0.15, 0.95])
    assert lines["p( Gate), unsteered"] == [0.0, 0.0] and len(lines) == 6
    assert "<img" in figure._repr_mimebundle_()["text/html"]


def test_texts_tokens_and_labels_never_become_markup():
    shown = made_steering()._repr_html_()
    for hostile in ("<b>Gate", "<script>", "<i>"):
        assert hostile not in shown
    assert "&lt;b&gt;Gate" in shown and "&lt;script&gt;bridge" in shown and "⏎" in shown
    assert "<script" not in made_steering().plot_dose()._repr_mimebundle_()["text/html"]


def test_the_table_has_a_row_for_every_continuation():
    table = made_steering().table
    assert len(table) == 8 and list(table["kind"].unique()) == ["unsteered", "features", "vector"]
    assert table["perplexity"].tolist() == pytest.approx([np.exp(0.5)] * 8)
    assert table["activation"][2] == pytest.approx(0.2)
