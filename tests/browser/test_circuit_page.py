"""A circuit in Chromium: hand and keys select, mark and group; labels run nothing; files open offline."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from contrast import too_faint
from live_page import open_live, open_saved
from made_circuit import PROMPT, made_circuit_bench
from made_graph import made_graph
from made_models import random_sae
from playwright.sync_api import Page, expect

from widgets import CircuitView
from widgets.marks import number, visible
from workbench.bench import Workbench
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.metrics import logit_diff

pytestmark = pytest.mark.browser
STATIC = Path(__file__).parents[2] / "widgets/static/circuit"
HOSTILE = [
    "</script><img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1>",
    '"><script>window.hacked=1</script>',
    "javascript:window.hacked=1",
    "</title><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "{{constructor.constructor('window.hacked=1')()}}",
    "' onmouseover='window.hacked=1",
    "\u202egnp.exe\u2066",
    "<style>*{display:none}</style>",
    "a\x00b\x1b[31m\u2028\ue000",
]


def field(page: Page):
    return page.get_by_role("application")


def said(page: Page):
    return page.locator(".wbx-said")


def opened(page: Page, folder: Path, circuit: Circuit | None = None, **traits) -> CircuitView:
    pane = CircuitView(made_graph() if circuit is None else circuit, **traits)
    open_saved(page, pane.to_html(folder / "circuit.html"))
    page.locator(".wbx[data-paint]").wait_for()
    return pane


def spot(page: Page, circuit: Circuit, node: str, pane: CircuitView) -> dict[str, float]:
    """Where the page draws a node, as its own picture says: a title in the SVG that it writes."""
    with page.expect_download() as saved:
        page.get_by_role("button", name="SVG", exact=True).click()
    svg = ElementTree.parse(saved.value.path()).getroot()
    row = circuit.nodes.set_index("node").loc[node]
    for shape in svg.iter():
        title = shape.find("{http://www.w3.org/2000/svg}title")
        if shape.tag.endswith("circle") and title is not None and title.text.startswith(f"feature {row.feature} "):
            return {"x": float(shape.get("cx")), "y": float(shape.get("cy"))}
    raise AssertionError(f"{node} is not drawn")


def test_a_click_selects_and_the_edges_are_said_and_lead_on(page: Page, tmp_path: Path):
    circuit = made_graph()
    pane = opened(page, tmp_path, circuit)
    top = pane.shown.top(1).query("kind == 'feature'")
    shown = pane.shown.nodes.query("kind == 'feature'").reset_index(drop=True)
    row = (top if len(top) else shown).iloc[0]
    field(page).click(position=spot(page, circuit, row["node"], pane))
    expect(said(page)).to_contain_text(f"feature {row.feature}")
    edges = pane.shown.edges
    expected = edges[edges["target"] == row["node"]]
    expect(page.locator('[data-ends="targets"] h5')).to_contain_text(f"{len(expected)} edge")
    strongest = circuit.nodes.set_index("node").loc[expected.loc[expected["weight"].abs().idxmax(), "source"]]
    page.locator('[data-ends="targets"] button').first.click()
    name = f"feature {strongest.feature}" if strongest.kind == "feature" else "token" if strongest.kind == "token" else "does not explain"
    expect(said(page).locator("b")).to_contain_text(name)
    expect(page.locator("[data-ends] button").first).to_be_focused()  # the keyboard stays in the lists


def test_everything_goes_by_keyboard(page: Page, tmp_path: Path):
    circuit = made_graph()
    pane = opened(page, tmp_path, circuit)
    field(page).focus()
    page.keyboard.press("ArrowRight")  # nothing is selected: the largest
    largest = pane.shown.nodes.assign(size=pane.shown.nodes["effect"].abs()).sort_values("size").iloc[-1]
    expect(said(page).locator("b")).to_contain_text(str(largest["token"]))
    for key in ("[", "ArrowDown", "ArrowUp", "ArrowLeft", "+", "-", "0", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("/")
    expect(page.get_by_label("Search labels")).to_be_focused()
    page.keyboard.type("thing 5")
    expect(page.locator(".wbp-push")).to_contain_text("found")
    page.keyboard.press("Enter")
    expect(said(page)).to_contain_text("thing 5")
    page.keyboard.press("Escape")
    expect(field(page)).to_be_focused()
    page.keyboard.press("Space")
    expect(said(page)).to_contain_text("marked")
    page.keyboard.press("p")
    expect(said(page)).to_contain_text("pinned")
    page.keyboard.press("g")
    expect(page.get_by_label("Name of a group")).to_be_focused()
    page.keyboard.type("fives")
    page.keyboard.press("Enter")
    expect(said(page)).to_contain_text("fives · a group of 1 node")
    expect(page.locator('.wbx-groups [aria-pressed="true"]')).to_have_text("fives 1")
    expect(field(page)).to_be_focused()
    page.keyboard.press("Escape")
    expect(said(page)).to_contain_text("Nothing is selected")


def test_a_group_is_one_node_with_its_edges_joined_by_keys_and_by_mouse(page: Page, tmp_path: Path):
    shown = made_graph().prune()
    members = shown.nodes.query("kind == 'feature' and layer == 2")["node"].tolist()[:3]
    opened(page, tmp_path, made_graph().group("three", members))
    at = {node: "three" if node in members else node for node in shown.nodes["node"]}
    ends = {end: shown.edges[end].map(at) for end in ("source", "target")}
    joined = shown.edges.assign(**ends).groupby(["source", "target"], as_index=False)["weight"].sum()
    into = joined[joined["target"] == "three"]
    whole = f"{len(shown.nodes)} of {len(made_graph().nodes)} nodes, {len(shown.edges)} of 300 edges"
    collapsed = f"{whole}; 1 group collapsed, drawn are {len(shown.nodes) - 2} and {len(joined)}"
    field(page).focus()
    for key in ("/", *"three", "Enter", "Escape", "c"):
        page.keyboard.press(key)
    expect(said(page)).to_contain_text("three · a group of 3 nodes")
    expect(said(page)).to_contain_text("collapsed")
    expect(page.locator(".wbp-push")).to_contain_text(collapsed)
    expect(page.locator('[data-ends="targets"] h5')).to_contain_text(f"{len(into)} edge")
    expect(page.locator('[data-ends="targets"] h5')).to_contain_text(f"weights come to {number(into['weight'].sum())}")
    expect(page.locator(".wbx-words tbody")).to_contain_text("three, a group of 3 nodes")
    page.keyboard.press("[")  # to what it comes from most, and back on from there
    strongest = into.loc[into["weight"].abs().idxmax(), "source"]
    expect(said(page)).to_contain_text(str(shown.nodes.set_index("node").loc[strongest, "token"]).strip())
    page.keyboard.press("Shift+C")
    expect(page.locator(".wbp-push")).to_have_text(re.compile(re.escape(whole) + "$"))
    page.keyboard.press("Shift+C")
    expect(page.locator(".wbp-push")).to_contain_text(collapsed)
    with page.expect_download() as saved:
        page.get_by_role("button", name="SVG", exact=True).click()
    titles = {each.find("{*}title").text: each for each in ElementTree.parse(saved.value.path()).iterfind(".//{*}path") if len(each)}
    left, top, across = map(float, re.findall(r"-?[\d.]+", titles["three, a group of 3 nodes"].get("d"))[:3])
    field(page).dblclick(position={"x": left, "y": top + across})
    expect(page.locator(".wbp-push")).to_have_text(re.compile(re.escape(whole) + "$"))


def test_tab_reaches_every_control_and_a_slider_moves_by_arrows(page: Page, tmp_path: Path):
    circuit = made_graph()
    nodes = circuit.prune().nodes.query("kind == 'feature'")["node"].tolist()
    opened(page, tmp_path, circuit.group("mine", nodes[:2]), group="mine", marked=nodes[2:3])
    rests = "el.disabled || !el.checkVisibility()"
    n_controls = page.evaluate(f"""() => {{
      const all = [...document.querySelectorAll(".wbx :is(button, input, summary, [tabindex])")].filter((el) => !({rests}));
      for (const el of all) el.addEventListener("focus", () => (el.dataset.wasFocused = "yes"));
      return all.length;
    }}""")
    for _ in range(n_controls):
        page.keyboard.press("Tab")
    assert page.locator("[data-was-focused]").count() == n_controls > 40
    before = page.locator(".wbp-push").inner_text()
    page.get_by_label("Share of the influence that nodes carry").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".wbx-top output").first).to_have_text("0.60")
    expect(page.locator(".wbp-push")).not_to_have_text(before)


def test_both_thresholds_are_sliders_that_need_no_kernel(page: Page, tmp_path: Path):
    circuit = made_graph(60, 500)
    opened(page, tmp_path, circuit)
    for name, shares in (("nodes", (0.5, 0.98)), ("edges", (0.5, 0.6))):
        box = page.get_by_label(f"Share of the influence that {name} carry")
        box.fill(str(shares[0] if name == "nodes" else shares[1]))
        wanted = circuit.prune(*shares)
        expect(page.locator(".wbp-push")).to_have_text(
            f"{len(wanted.nodes)} of {len(circuit.nodes)} nodes, {len(wanted.edges)} of 500 edges"
        )
    assert page.locator(".wbx-words tbody tr").count() == min(15, len(wanted.nodes))


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_tokens_and_names_are_shown_not_run(page: Page, tmp_path: Path, label: str):
    circuit = made_graph()
    node = circuit.prune().nodes.query("kind == 'feature'")["node"].iloc[0]
    nodes = circuit.nodes.assign(label=label, token=label)
    texts = dict(prompt=label, answer=label, baseline=label, model_name=label, notes=(label,), str_tokens=[label] * len(circuit.str_tokens))
    circuit = Circuit(**{**vars(circuit), **texts, "nodes": nodes, "groups": {label: (node,)}})
    opened(page, tmp_path, circuit, node=node)
    shown = visible(label)
    expect(said(page)).to_contain_text(shown)
    expect(page.locator(".wbx-title")).to_contain_text(shown)
    expect(page.locator(".wbx-words tbody")).to_contain_text(shown)
    with page.expect_download() as saved:
        page.get_by_role("button", name="SVG", exact=True).click()
    svg = ElementTree.parse(saved.value.path()).getroot()
    tags = {each.tag.rpartition("}")[2] for each in svg.iter()}
    assert tags == {"svg", "title", "rect", "path", "circle", "text"}
    if circuit.groups:
        page.locator(".wbx-groups button").first.click()
        expect(said(page)).to_contain_text(shown)
    page.locator("canvas[tabindex]").hover(position={"x": 500, "y": 200})
    assert page.evaluate("window.hacked") is None
    assert page.locator("#widget :is(img, iframe, script, style)").count() == 0


def test_the_file_of_a_circuit_without_a_pane_draws_searches_and_says_that_nothing_is_measured(page: Page, tmp_path: Path):
    circuit = made_graph()
    circuit.to_json(tmp_path / "graph.json")
    Circuit.load(tmp_path / "graph.json").to_html(tmp_path / "graph.html")
    open_saved(page, tmp_path / "graph.html")
    page.locator(".wbx[data-paint]").wait_for()
    expect(page.get_by_text("Measuring needs the model")).to_be_visible()
    for name in ("Ablate", "Clamp", "Build"):
        expect(page.get_by_role("button", name=name)).to_be_hidden()
    page.get_by_label("Search labels").fill("thing")
    page.keyboard.press("Enter")
    expect(said(page)).to_contain_text("thing")
    with page.expect_download() as saved:
        page.get_by_role("button", name="PNG", exact=True).click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_every_control_is_named_and_keeps_its_keys(page: Page, tmp_path: Path, scheme: str):
    page.emulate_media(color_scheme=scheme)
    opened(page, tmp_path, node=made_graph().prune().nodes.query("kind == 'feature'")["node"].iloc[2])
    assert page.locator(".wbp-dark").count() == (scheme == "dark")
    assert too_faint(page, ".wbx") == []
    controls = page.locator(".wbx button, .wbx input, .wbx summary, .wbx [tabindex]")
    assert controls.count() > 20
    assert controls.evaluate_all("all => all.every((one) => one.dataset.lmSuppressShortcuts === 'true')")
    assert controls.evaluate_all(
        "all => all.every((one) => one.ariaLabel || one.labels?.length || one.textContent.trim() || one.title || one.hidden)"
    )


def test_a_group_is_ablated_and_clamped_and_predicted_stands_beside_measured(page: Page, tmp_path: Path, model):
    circuit = made_circuit_bench(model).circuit(PROMPT, logit_diff(" mat", " dog"), progress=False)
    members = circuit.prune().nodes.query("kind == 'feature'")["node"].tolist()[:3]
    pane = CircuitView(circuit.group("three", members), group="three")
    open_live(page, pane, tmp_path)
    field(page).focus()
    page.keyboard.press("a")
    expect(page.locator(".wbx-moved h5")).to_contain_text("three switched off")
    expect(page.locator(".wbx-moved p").first).to_contain_text(number(pane.clamped.metric))
    expect(said(page)).to_contain_text(f"switched off together: {number(circuit.effect_of(members))}")
    assert pane.clamped.members == tuple(members) and pane.clamped.metric == pytest.approx(circuit.clamp(members).metric, abs=1e-5)
    page.get_by_label("Activation to clamp to").fill("2.5")
    page.keyboard.press("Enter")
    expect(page.locator(".wbx-moved h5")).to_contain_text("three at 2.5")
    page.locator(".wbx-moved button").first.click()
    expect(page.locator(".wbx-moved h5")).to_contain_text("another selection")


def test_an_empty_pane_offers_to_build_and_shows_what_was_built(page: Page, tmp_path: Path, model):
    pane = CircuitView(bench=made_circuit_bench(model), question={"prompt": PROMPT, "answer": " mat", "baseline": " dog"})
    open_live(page, pane, tmp_path)
    expect(page.locator(".wbx-empty")).to_contain_text(f"No circuit of “{PROMPT}” yet")
    page.get_by_role("button", name="Build the circuit").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".wbx-title")).to_contain_text("rather than")
    expect(field(page)).to_be_visible()
    expect(page.locator(".wbp-push")).to_contain_text(f"of {len(pane.circuit.nodes):,} nodes")
    expect(field(page)).to_be_focused()  # the button moved below it, the keys go on from the picture


def test_where_there_can_be_no_circuit_the_pane_says_why_and_offers_none(page: Page, tmp_path: Path, model):
    bench = Workbench(model=model, sae=random_sae())
    open_live(page, CircuitView(bench=bench, question={"prompt": PROMPT, "answer": " mat", "baseline": " dog"}), tmp_path)
    expect(page.locator(".wbx-empty")).to_contain_text("two hook points or more")
    expect(page.get_by_role("button", name="Build the circuit")).to_be_hidden()


def test_a_group_without_a_name_takes_none_of_anothers_and_one_of_a_name_that_there_is_joins(page: Page, tmp_path: Path):
    circuit = made_graph()
    a, b, c = circuit.nodes.query("kind == 'feature'")["node"].tolist()[:3]
    pane = CircuitView(circuit.group("group 2", [a]), marked=[b])  # as after two were made and the first was let go
    open_live(page, pane, tmp_path)
    page.get_by_role("button", name="Group 1 marked node").click()
    expect(page.locator(".wbx-groups")).to_contain_text("group 3")
    page.evaluate("ask({})")
    assert pane.groups == {"group 2": [a], "group 3": [b]}
    pane.marked = [c]
    page.evaluate("ask({})")
    page.get_by_label("Name of a group").fill("group 2")
    page.get_by_label("Name of a group").press("Enter")
    expect(page.locator('.wbx-groups [aria-pressed="true"]')).to_contain_text("group 2")
    page.evaluate("ask({})")
    assert pane.groups == {"group 3": [b], "group 2": [a, c]}
