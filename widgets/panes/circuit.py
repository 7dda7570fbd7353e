"""The circuit of a prompt, live: which features make which, pruned by two sliders; a group is ablated or clamped, and what moves is shown.

    CircuitView(bench.circuit(prompt, metric), bench)       a circuit that is there; without the bench it has no feature pages
    CircuitView(wb.Circuit.load("graph.json"))              anybody's
    pane = CircuitView(bench=bench, question={"prompt": "…", "answer": " Sacramento", "baseline": " Albany"}); pane.run().wait()
    pane.circuit                                            with the groups and pins that were made on the page
    pane.clamp(["6_2036_13"]).wait(); pane.clamped          Circuit.clamp: predicted beside measured

Pruning is done in the page (circuit_cut.js), so that sliders need no kernel; `pane.shown` is Circuit.prune at what they say. `node` is the
selection among all places, `feature` that of the other panes: a feature of the SAE at `home`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from widgets.html.card import card_html
from widgets.html.circuit import SCRIPTS, circuit_data, circuit_html
from widgets.marks import FAINT, plain_number, visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import STATIC, WorkingPane, module, style
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.clamping import Clamped
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_str_tokens, to_tokens
from workbench.replay.precision import InFloat32

N_MOVED = 60  # rows of a clamp that are sent
N_PAGES = 12  # of the largest nodes, in a saved file
DATA = ("about", "tokens", "hook_names", "nodes", "wanted", "edges")  # traits that follow from the circuit alone, the edges last


class CircuitView(WorkingPane):
    """Traits: `node`, `group`, `marked`, `pinned`, `groups`, `collapsed`, `node_share`, `edge_share`, `query`, `view`."""

    _esm = module(*SCRIPTS)
    _css = style("circuit/circuit")
    _offline = (STATIC / "circuit/circuit_offline.js",)
    kept = ("feature", "node", "group", "marked", "pinned", "groups", "collapsed", "node_share", "edge_share", "query", "view", "with_page")
    maker = "CircuitView(circuit, bench)"

    node = traitlets.Unicode("", help="the selected node's name").tag(sync=True)
    group = traitlets.Unicode("", help="a group that is chosen instead of a node").tag(sync=True)
    marked = traitlets.List(traitlets.Unicode(), help="nodes that a name will make a group of").tag(sync=True)
    pinned = traitlets.List(traitlets.Unicode(), help="nodes that stay, whatever the thresholds").tag(sync=True)
    groups = traitlets.Dict(help="name → nodes").tag(sync=True)
    collapsed = traitlets.List(traitlets.Unicode(), help="groups that are one node in the picture").tag(sync=True)
    node_share = traitlets.Float(0.8, help="nodes that carry this share of the influence are shown").tag(sync=True)
    edge_share = traitlets.Float(0.98, help="and the edges that carry this share between them").tag(sync=True)
    query = traitlets.Unicode("", help="words of labels, tokens and groups, or a feature's number: what matches stands out").tag(sync=True)
    view = traitlets.List([], help="middle (x, y) in places of the layout and zoom; empty: the whole").tag(sync=True)
    with_page = traitlets.Bool(False, help="is the selected feature's page open below?").tag(sync=True)
    question = traitlets.Dict(help="prompt, answer, baseline: what `run` builds the circuit of").tag(sync=True)

    about = traitlets.Dict(read_only=True).tag(sync=True)
    tokens = traitlets.List(read_only=True).tag(sync=True)
    hook_names = traitlets.List(read_only=True).tag(sync=True)
    nodes = traitlets.Dict(read_only=True, help="a list a column").tag(sync=True)
    wanted = traitlets.List(read_only=True).tag(sync=True)
    edges = traitlets.Bytes(read_only=True, help="see widgets.html.circuit.circuit_data").tag(sync=True)
    home = traitlets.Unicode(read_only=True, help="the hook point whose features `feature` means; empty: any").tag(sync=True)
    moved = traitlets.Dict(read_only=True, help="what the last clamp moved").tag(sync=True)
    together = traitlets.Dict(read_only=True, help="group → its effect, all switched off at once, where measured").tag(sync=True)
    page = traitlets.Dict(read_only=True, help="the selected feature's page, while it is open").tag(sync=True)
    waiting = traitlets.Unicode(read_only=True, help="why there is no circuit").tag(sync=True)

    def __init__(self, circuit: Circuit | None = None, bench: Any = None, **traits: Any):
        self._bench, self._circuit, self.clamped = bench, None, None
        self._todo: tuple[Any, ...] = ()
        self._built: dict[str, str] | None = None
        self._choosing = False
        super().__init__(None if bench is None else bench.model, **traits)
        self.look_through(bench)
        if circuit is not None:
            self.show(circuit)

    @property
    def circuit(self) -> Circuit | None:
        """What is shown, whole, with the groups and pins of the page."""
        if self._circuit is None:
            return None
        groups = {name: tuple(nodes) for name, nodes in self.groups.items()}
        return replace(self._circuit, groups=groups, pinned=tuple(self.pinned))

    @property
    def shown(self) -> Circuit | None:
        """`circuit`, pruned as the sliders say."""
        return None if self.circuit is None else self.circuit.prune(self.node_share, self.edge_share)

    def show(self, circuit: Circuit) -> None:
        """Shows another circuit; of what was chosen, marked and pinned stays what is in it. Groups made by hand stay, too."""
        own = {} if self._circuit is None or self.groups == {n: list(m) for n, m in self._circuit.groups.items()} else self.groups
        self._circuit, known = circuit, set(circuit.nodes["node"])
        data = circuit_data(circuit)
        groups = {name: [node for node in nodes if node in known] for name, nodes in (own or data["groups"]).items()}
        with self.hold_sync():
            self.groups = {name: nodes for name, nodes in groups.items() if nodes}
            self.marked = [node for node in self.marked if node in known]
            self.pinned = list(dict.fromkeys([*data["pinned"], *(node for node in self.pinned if node in known)]))
            self.group = self.group if self.group in self.groups else ""
            self.collapsed = [name for name in self.collapsed if name in self.groups]
            self.set_trait("together", {})
            self.set_trait("moved", {})
            self.set_trait("waiting", "")
            for name in DATA:
                self.set_trait(name, data[name])
        if self.node not in known:
            self.node = ""
            self._follow_feature()

    def look_through(self, bench: Any) -> None:
        """Another SAE of the same model: `feature` is one of its own from now on."""
        self._bench = bench
        self.set_trait("home", "" if bench is None else bench.sae.reads)
        if self._circuit is None and bench is not None:
            needs = "Workbench(…, layers={hook name: SAE})"
            direct = ' Of its transcoders: widgets.CircuitView(bench.circuit(prompt, metric, over="transcoders"), bench).'
            said = f"A circuit needs an SAE at two hook points or more, and this bench has fewer: {needs}."
            self.set_trait("waiting", said + direct * bool(bench.transcoders) if len(bench.layers) < 2 else "")
        self._follow_feature()

    # --- the selection: a node among all places, a feature among those of one SAE

    @traitlets.observe("node")
    def _follow_node(self, change: Any) -> None:
        row = self._row(self.node)
        if row is not None and self._is_own(row) and not self._choosing:
            self._choosing = True
            self.feature = int(row["feature"])
            self._choosing = False
        self._turn()

    @traitlets.observe("feature")
    def _follow_feature(self, change: Any = None) -> None:
        if self._circuit is None or self._choosing or self.feature is None:
            return
        row = self._row(self.node)
        if row is not None and self._is_own(row) and row["feature"] == self.feature:
            return
        nodes = self._circuit.nodes
        mine = nodes[(nodes["kind"] == "feature") & (nodes["feature"] == self.feature)]
        mine = mine[mine["hook_name"] == self.home] if self.home else mine
        size = mine["effect"].abs().fillna(mine["attribution"].abs()).fillna(0.0).to_numpy()
        self._choosing = True
        with self.hold_sync():
            self.group, self.node = "", str(mine["node"].iloc[int(size.argmax())]) if len(mine) else ""
        self._choosing = False

    def _is_own(self, row: pd.Series) -> bool:
        return row["kind"] == "feature" and (not self.home or row["hook_name"] == self.home)

    def _row(self, node: str) -> pd.Series | None:
        if self._circuit is None or not node:
            return None
        found = self._circuit.nodes[self._circuit.nodes["node"] == node]
        return found.iloc[0] if len(found) else None

    @traitlets.observe("with_page")
    def _turn(self, change: Any = None) -> None:
        """The selected feature's page, while it is open."""
        row = self._row(self.node) if self.with_page else None
        self.set_trait("page", {} if row is None else self._page_of(row))

    def _page_of(self, row: pd.Series) -> dict[str, str]:
        bench = self._bench
        if bench is None or row["kind"] != "feature":
            return {}
        if row["hook_name"] != self.home or bench.layers.get(self.home, bench.sae) is not bench.sae or bench.index is None:
            return {"says": f"There is no index of the SAE at {visible(row['hook_name'])}: its features have no page here."}
        return {"html": card_html(bench.feature(int(row["feature"])), lambda sae, feature: "")}

    # --- work on the model

    def run(self) -> Job:
        """Builds the circuit of `question`."""
        self._todo = ("build", dict(self.question))
        return super().run()

    def clamp(self, nodes: str | Sequence[str], value: float = 0.0, name: str = "") -> Job:
        """Puts a group, a label or nodes to an activation, all at once (0 switches off); `clamped` then holds what moves."""
        if self._model is None and self._circuit is not None and self._circuit.lens is not None:
            self._model = self._circuit.lens.model
        self._model = self if self._model is None else self._model  # a file's circuit runs no model, and waits for none
        self._todo = ("clamp", nodes, value, name)
        return super().run()

    def work(self, job: Job) -> None:
        what, *about = self._todo
        if what == "build":
            self._build(job, about[0])
        else:
            self._clamp(*about)

    def _build(self, job: Job, question: Mapping[str, str]) -> None:
        prompt, answer = question.get("prompt", ""), question.get("answer", "")
        if self._bench is None or not prompt.strip():
            raise ValueError("there is no bench" if self._bench is None else "there is no prompt yet")
        model = self._bench.model
        first = None
        if not answer:  # by its number: not every token's text is its own
            with InFloat32(model):  # in 16 bits several tokens are likeliest
                first = last_logits(model, to_tokens(model, prompt)).argmax(-1)
        metric = logit_diff(answer if first is None else int(first), question.get("baseline") or None)
        answer = answer if first is None else to_str_tokens(model, first)[0]
        circuit = self._bench.circuit(prompt, metric, progress=False, on_rows=job.go_on)
        with SETTING:
            if not job.is_cancelled:
                self._built = {**question, "answer": answer}
                self.show(circuit)

    def _clamp(self, nodes: str | Sequence[str], value: float, name: str) -> None:
        circuit = self.circuit
        if circuit is None:
            raise ValueError("there is no circuit yet")
        clamped = circuit.clamp(nodes, value)
        effect = circuit.clean_metric - clamped.metric
        with SETTING:
            self.clamped = clamped
            self.set_trait("moved", moved_view(clamped, name))
            for group, members in self.groups.items():
                if value == 0 and set(members) == set(clamped.members) and np.isfinite(effect):
                    self.set_trait("together", {**self.together, group: float(effect)})

    @traitlets.observe("groups")
    def _forget_changed(self, change: Any) -> None:
        """What a group did together is not known of another set of nodes under its name."""
        old, new = change["old"] or {}, change["new"]
        same = {name: effect for name, effect in self.together.items() if set(old.get(name, ())) == set(new.get(name, ()))}
        self.set_trait("together", same)

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("do") == "clamp":
            nodes, value, name = (content.get(each) for each in ("nodes", "value", "name"))
            if isinstance(nodes, list) and all(isinstance(each, str) for each in nodes) and isinstance(value, int | float):
                self.clamp(nodes, float(value), str(name or ""))
        else:
            super()._hear(_, content, buffers)

    # --- elsewhere

    def offline(self) -> dict[str, Any]:
        """The pages of the largest features that have one."""
        pages = {}
        if self._circuit is not None and self._bench is not None and self._bench.index is not None:
            for _, row in self._circuit.top(400).iterrows():
                if len(pages) < N_PAGES and self._is_own(row) and "html" in (found := self._page_of(row)):
                    pages[row["node"]] = found["html"]
        return {"pages": pages}

    def made(self) -> str:
        """Code that makes the circuit that was built here."""
        if self._built is None:
            return ""
        prompt, *texts = (self._built.get(name, "") for name in ("prompt", "answer", "baseline"))
        return f"circuit = bench.circuit({prompt!r}, wb.logit_diff({', '.join(repr(text) for text in texts if text)}))"

    def to_python(self) -> str:
        return "\n".join(filter(None, [self.made(), super().to_python()]))

    def static_html(self) -> str:
        return f'<div style="{FAINT}">{repr(self)}</div>' if self._circuit is None else circuit_html(self.circuit)

    def __repr__(self) -> str:
        if self._circuit is None:
            return "CircuitView: no circuit yet"
        chosen = f"group {self.group!r}" if self.group else self.node or "nothing"
        return f"CircuitView: {len(self._circuit.nodes):,} nodes and {len(self._circuit.edges):,} edges, {chosen} selected"


def moved_view(clamped: Clamped, name: str) -> dict[str, Any]:
    """A Clamped as plain data for the page."""
    table = clamped.table
    moves = table[["predicted", "measured"]].sub(table["clean"], axis=0).abs().max(axis=1).to_numpy()
    rows = table[moves > 1e-6].head(N_MOVED)
    called = visible(name) or (clamped.members[0] if len(clamped.members) == 1 else f"{len(clamped.members)} nodes")
    return {
        "name": called,
        "members": list(clamped.members),
        "value": clamped.value,
        "clean": plain_number(clamped.clean_metric),
        "predicted": plain_number(clamped.predicted_metric),
        "measured": plain_number(clamped.metric),
        "own": plain_number(clamped.own) if len(clamped.members) > 1 else None,
        "agreement": plain_number(clamped.agreement),
        "n_moved": int((moves > 1e-6).sum()),
        "rows": [
            [row.node, *map(plain_number, (row.clean, row.predicted, row.measured))]  # pyright: ignore
            for row in rows.itertuples()
        ],
    }
