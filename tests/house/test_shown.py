"""What a reader would see otherwise is a difference; a last digit, a progress bar and code inside a page are none."""

import base64

import numpy as np
import pytest
from shown import PLOTLY, WIDGET, differences, is_near


def result(**data: object) -> list[dict]:
    names = {"plain": "text/plain", "html": "text/html", "plotly": PLOTLY, "widget": WIDGET}
    return [{"output_type": "execute_result", "data": {names[kind]: value for kind, value in data.items()}}]


def picture(y: list[float]) -> dict:
    data = base64.b64encode(np.array(y, "f8").tobytes()).decode()
    return {"data": [{"y": {"dtype": "f8", "bdata": data}, "name": "loss"}], "layout": {"title": {"text": "Loss"}}}


def svg(path: str) -> str:
    code = base64.b64encode(f'<svg><path d="{path}"/></svg>'.encode()).decode()
    return f'<img alt="effects" src="data:image/svg+xml;base64,{code}">'


BAR = '<div style="width:37.5%" title="effect +0.43">team:Lakers</div><script>let x = 1</script>'


@pytest.mark.parametrize(
    ("committed", "executed"),
    [
        (result(plain="labels   779 features"), result(plain="labels   647 features")),
        (result(plain="feature 574"), result(plain="feature 575")),
        (result(plain="loss 0.36"), result(plain="loss 0.38")),
        (result(plain="effect -0.36"), result(plain="effect +0.36")),
        (result(plain="flower-of 0.54"), result(plain="0.54")),
        (result(html=BAR), result(html=BAR.replace("37.5", "41.2"))),
        (result(html=BAR), result(html=BAR.replace("+0.43", "+0.47"))),
        (result(html=BAR), result(html=BAR.replace("Lakers", "Rams"))),
        (result(html=svg("M1.0 2.0h0")), result(html=svg("M1.0 3.0h0"))),
        (result(html=svg("M1.0 2.0h0")), result(html=svg("M1.0 2.0h0M1.0 2.0h0"))),
        (result(html=svg("M1.0 2.0h0M5.0 2.0h0")), result(html=svg("M1.0 2.0h0M1.0 2.0h0"))),
        (result(html=svg("M1.0 2.0L3.0 4.0")), result(html=svg("M1.0 2.0L3.0 5.0"))),
        (result(html="", plotly=picture([1.0, 2.0])), result(html="", plotly=picture([1.0, 2.1]))),
        (result(plain="a"), []),
        (result(plain="a"), result(plain="a", html="<b>a</b>")),
        ([{"output_type": "stream", "name": "stdout", "text": "a"}], [{"output_type": "stream", "name": "stderr", "text": "a"}]),
    ],
)
def test_what_a_reader_would_see_otherwise_is_a_difference(committed, executed):
    assert differences(committed, executed)
    assert not differences(committed, committed) and not differences(executed, executed)


@pytest.mark.parametrize(
    ("committed", "executed"),
    [
        (result(plain="loss 0.36"), result(plain="loss 0.37")),
        (result(plain="a     1.20\nb  0.30"), result(plain="a  1.20\nb    0.30")),
        (result(plain="18,900,000.4 fold"), result(plain="18,900,010.3 fold")),
        (result(html=BAR), result(html=BAR.replace("x = 1", "x = 2"))),
        (result(html=svg("M1.0 2.0h0M5.0 2.0h0")), result(html=svg("M5.1 2.0h0M1.0 2.1h0"))),  # as large to rounding
        (result(html=svg("M1.0 2.0L3.0 4.0")), result(html=svg("M1.0 2.0L3.0 4.2"))),
        (result(html="a", plotly=picture([1.0, 2.0])), result(html="b", plotly=picture([1.0, 2.0000001]))),
        (result(plain="a"), [*result(plain="100%", widget={"model_id": "1"}), *result(plain="a")]),
    ],
)
def test_what_a_machine_changes_is_none(committed, executed):
    assert not differences(committed, executed)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("0.36", "0.37", True), ("779", "780", False), ("1e-05", "1.0004e-05", True), ("−0.5", "-0.5", True)]
)
def test_numbers_are_the_same_to_the_last_digit_shown_and_counts_exactly(a, b, expected):
    assert is_near(a, b) == expected


def test_of_what_is_trained_on_the_spot_the_words_count():
    table = "standard topk batchtopk jumprelu fvu {} {} dead"
    assert not differences(result(plain=table.format(0.11, 0.2)), result(plain=table.format(0.13, 0.4)), is_trained=True)
    assert differences(result(plain=table), result(plain="Evaluation of features at blocks over tokens"), is_trained=True)
