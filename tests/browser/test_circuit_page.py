"""A circuit in Chromium: it prunes as Circuit.prune does; hand and keys select, mark and group; labels run nothing; files open offline."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from contrast import too_faint
from live_page import open_live, open_saved
from made_circuit import PROMPT, made_circuit_bench
from made_graph import made_graph
from playwright.sync_api import Page, expect

from widgets import CircuitView
from widgets.html.circuit import circuit_data
from widgets.html.standalone import as_json
from widgets.marks import number, visible
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
CUT = """([data, nodes, edges, pinned]) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const traits = JSON.parse(data, (key, value) => (value?.["@bytes"] == null ? value : bytes(value["@bytes"])));
  const { graph, row } = unpack({ get: (name) => traits[name] });
  const isPinned = new Uint8Array(graph.n);
  for (const id of pinned) isPinned[row.get(id)] = 1;
  const cut = cutGraph(graph, nodes, edges, isPinned);
  return [[...cut.nodes], [...cut.edges], [...cut.influence]];
}"""


def field(page: Page):
    return page.get_by_role("application")


def said(page: Page):
    return page.locator(".wbx-said")


def opened(page: Page, folder: Path, circuit: Circuit | None = None, **traits) -> CircuitView:
    pane = CircuitView(made_graph() if circuit is None else circuit, **traits)
    open_saved(page, pane.to_html(folder / "circuit.html"))
    page.locator(".wbx[data-paint]").wait_for()
    return pane


@pytest.mark.parametrize("seed", range(4))
def test_what_the_page_prunes_is_what_prune_gives(page: Page, seed: int):
    circuit = made_graph(60, 500, seed=seed)
    if seed == 1:  # ties: many equal strengths
        circuit = Circuit(**{**vars(circuit), "edges": circuit.edges.assign(change=np.sign(circuit.edges["change"]))})
    if seed == 2:  # what no answer is made of
        circuit = Circuit(
            **{**vars(circuit), "edges": circuit.edges[~circuit.edges["target"].str.startswith("logit")].reset_index(drop=True)}
        )
    page.add_script_tag(content=(STATIC / "circuit_cut.js").read_text() + (STATIC / "circuit_links.js").read_text())
    pinned = [circuit.nodes.query("kind == 'feature'")["node"].iloc[-1]] if seed == 3 else []
    n_kept = set()
    for node_share, edge_share in [(0.8, 0.98), (0.3, 0.98), (0.8, 0.4), (0.05, 0.05), (1.0, 1.0), (1.0, 0.5), (0.61, 1.0), (0.97, 0.83)]:
        nodes, edges, influence = page.evaluate(CUT, [as_json(circuit_data(circuit)), node_share, edge_share, pinned])
        wanted = (circuit.pin(pinned) if pinned else circuit).prune(node_share, edge_share)
        assert circuit.nodes["node"][np.array(nodes, bool)].tolist() == wanted.nodes["node"].tolist()
        kept = circuit.edges[np.array(edges, bool)]
        assert kept[["source", "target"]].to_numpy().tolist() == wanted.edges[["source", "target"]].to_numpy().tolist()
        np.testing.assert_allclose(influence, circuit.influence, rtol=1e-9, atol=1e-15)
        n_kept.add(len(wanted.edges))
    assert len(n_kept) > (4 if seed != 2 else 0)


AT_THE_EDGE = """() => {
  const context = document.createElement("canvas").getContext("2d");
  const rows = [0, 1, 2, 3, 4, 5];
  const [px, py] = [[394, 372, 394, 394, 372, 372], [60, 60, 42, 78, 42, 78]].map((values) => Float32Array.from(values));
  const name = (i) => `a feature of the long name ${i}`;
  const scene = { width: 400, height: 300, px, py, radius: new Float32Array(6).fill(8), nodes: rows, name };
  const right = ({ x, text }) => x + context.measureText(text).width;
  return [0, 1].map((n_must) => placeNames(context, scene, rows, 24, n_must).map((each) => [each.text, each.x, right(each)]));
}"""


def test_what_is_chosen_has_its_name_in_the_picture_even_at_a_crowded_edge(page: Page):
    page.add_script_tag(content=(STATIC / "circuit_layout.js").read_text() + (STATIC / "circuit_canvas.js").read_text())
    free, chosen = page.evaluate(AT_THE_EDGE)
    assert chosen[0][0].endswith("name 0") and chosen[0][1] > 0 and chosen[0][2] < 400
    assert len(free) <= len(chosen) < 6, "all others give way"


JOINED = """([sources, targets, weights, end, n]) => {
  const order = Int32Array.from(weights.keys()).sort((a, b) => Math.abs(weights[a]) - Math.abs(weights[b]));
  const data = { n, n_edges: weights.length, sources, targets, weights: Float32Array.from(weights), order };
  const found = linksOf(data, weights.map(() => 1), end.map(() => 1).concat([1, 1]), end, 1e9);
  return [[...found.sources], [...found.targets], [...found.weights]];
}"""


@pytest.mark.parametrize("seed", range(3))
def test_edges_of_collapsed_groups_are_summed_and_stand_in_order_among_the_others(page: Page, seed: int):
    page.add_script_tag(content=(STATIC / "circuit_cut.js").read_text() + (STATIC / "circuit_links.js").read_text())
    rng, n, n_edges = np.random.default_rng(seed), 12, 60
    sources, targets = rng.integers(0, n, (2, n_edges))
    weights = rng.integers(-6, 7, n_edges).astype(float)  # many are equal, some sums are 0
    end = np.arange(n)
    end[[1, 4, 7]], end[[2, 3]] = n, n + 1  # two groups
    found = page.evaluate(JOINED, [sources.tolist(), targets.tolist(), weights.tolist(), end.tolist(), n])
    sums: dict[tuple[int, int], float] = {}
    plain: list[tuple[int, int, float]] = []
    for u, v, weight in zip(end[sources].tolist(), end[targets].tolist(), weights.tolist(), strict=True):
        if u != v and weight and max(u, v) >= n:
            sums[u, v] = sums.get((u, v), 0.0) + weight
        elif u != v and weight:
            plain.append((u, v, weight))
    expected = sorted([*plain, *((u, v, weight) for (u, v), weight in sums.items() if weight)])
    assert sorted(zip(*found, strict=True)) == expected
    assert (np.diff(np.abs(found[2])) >= 0).all(), "the weakest first: the strongest are drawn last, and kept where there are too many"


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
