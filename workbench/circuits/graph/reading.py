"""Anybody's attribution graph as a Circuit: the JSON of the public viewers, read as data.

Two nodes may share an id: circuit-tracer names the error of layer L at position p "0_L_p", as the feature L of layer 0 is named. What a
link means then follows from what such a file is: nothing leads into an error; an error of layer L leads to later layers only; and each
target's links stand in the order of their sources' nodes, features before errors. Where that leaves both, the file is refused.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.circuits.graph.exchange import cantor, clean_text
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS
from workbench.files import parse_json, read_text
from workbench.model.tokens import without_surrogates

MOST_BYTES = 1 << 30
MOST = 1e308  # of a number: JSON writes whole ones of any length, which are no floats
PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin")
HALVES = re.compile(r"\\u[dD][89a-fA-F]")  # of a character, as JSON spells them
KIND_OF = {"embedding": "token", "logit": "logit", "bias": "error"}


def read_graph(kind: Callable[..., Any], path: str | Path) -> Any:
    """Raises ValueError, in one sentence, for a file that is no graph."""
    content = _content(Path(path))
    nodes, name_of = _nodes(content, path)
    edges = _edges(content, nodes, name_of, path)
    nodes = nodes.drop(columns=["file_id", "probability"])
    _check_acyclic(nodes, edges, path)
    about = content["metadata"]
    own: dict[str, Any] = about.get("workbench", {}) if isinstance(about.get("workbench"), dict) else {}  # pyright: ignore[reportAssignmentType]
    wanted = _wanted(content, name_of)
    logits = nodes[nodes["kind"] == "logit"]
    params: dict[str, Any] = content.get("qParams") if isinstance(content.get("qParams"), dict) else {}  # pyright: ignore[reportAssignmentType]
    unique = {file_id: names[0] for file_id, names in name_of.items()}
    return kind(
        nodes=nodes,
        edges=edges,
        prompt=clean_text(about.get("prompt", "")),
        str_tokens=[clean_text(token) for token in about.get("prompt_tokens", [])],
        wanted=wanted,
        way=str(own.get("way", "direct")),
        answer=clean_text(own.get("answer", logits["token"].iloc[0] if len(logits) else "")),
        baseline=clean_text(own.get("baseline", "")),
        clean_metric=_number(own.get("clean_metric")),
        clean_mean=_number(own.get("clean_mean")),
        model_name=clean_text(about.get("scan", "")),
        groups=_groups(params.get("supernodes"), unique),
        pinned=tuple(unique[each] for each in params.get("pinnedIds") or () if isinstance(each, str) and each in unique),
        notes=tuple(clean_text(note) for note in own.get("notes", ()) if isinstance(note, str)),
    )


def _content(path: Path) -> dict[str, Any]:
    if path.suffix.lower() in PICKLED:
        raise ValueError(
            f"{path.name} is a pickle, which can run code when it is read: save the graph as JSON (create_graph_files) and load that"
        )
    if not path.is_file():
        raise ValueError(f"{path} is no file: expected the JSON of an attribution graph")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} holds {path.stat().st_size / 1e9:.1f} GB: expected a pruned graph, up to {MOST_BYTES / 1e9:.0f} GB")
    text = read_text(path)
    content = parse_json(text, str(path))
    content = _whole(content) if HALVES.search(text) else content
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no attribution graph: it holds a {type(content).__name__}, not an object of metadata, nodes and links")
    missing = [name for name in ("metadata", "nodes", "links") if name not in content]
    if missing:
        raise ValueError(f"{path} is no attribution graph: it lacks {', '.join(missing)}")
    if not isinstance(content["metadata"], dict) or not all(isinstance(content[name], list) for name in ("nodes", "links")):
        raise ValueError(f"{path}: expected metadata as an object, nodes and links as lists")
    if not content["nodes"]:
        raise ValueError(f"{path} holds no node")
    return content


def _whole(value: Any) -> Any:
    """JSON can spell half a character; no file that is written can hold one, so that here it is �, in names as in links to them."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _nodes(content: dict[str, Any], path: Any) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """(the table, file's id → our names: two where a feature and an error share one, the feature first)."""
    tokens = content["metadata"].get("prompt_tokens") or []
    rows, name_of, used = [], {}, set()
    for number, node in enumerate(content["nodes"]):
        row = _row(node, number, tokens, path)
        if row["node"] in used:
            raise ValueError(f"{path}: two nodes of kind {row['kind']} have the id {row['file_id']!r}")
        used.add(row["node"])
        name_of.setdefault(row["file_id"], []).append(row["node"])
        rows.append(row)
    table = pd.DataFrame(rows)
    kinds = dict(zip(table["node"], table["kind"], strict=True))
    for names in name_of.values():
        names.sort(key=lambda name: kinds[name] == "error")
    depth = int(table.loc[table["kind"] != "token", "layer"].max()) if (table["kind"] != "token").any() else 0
    table.loc[table["kind"] == "logit", "layer"] = table.loc[table["kind"] == "logit", "layer"].clip(lower=depth)
    return table[[*NODE_COLUMNS, "file_id", "probability"]], name_of


def _row(node: Any, number: int, tokens: list, path: Any) -> dict[str, Any]:
    if not isinstance(node, dict) or not isinstance(node.get("node_id"), str) or not node["node_id"]:
        raise ValueError(f"{path}: node {number} has no node_id")
    file_id, feature_type = node["node_id"], str(node.get("feature_type", ""))
    kind = KIND_OF.get(feature_type, "error" if "error" in feature_type else "feature")
    pos = node.get("ctx_idx", 0)
    if isinstance(pos, bool) or not isinstance(pos, int) or pos < 0:
        raise ValueError(f"{path}: node {file_id!r} stands at ctx_idx {pos!r}, expected a position, 0 or more")
    layer, parts = str(node.get("layer", "0")), file_id.split("_")
    is_number = re.fullmatch(r"-?\d{1,6}", layer) is not None
    own: dict[str, Any] = node.get("workbench") if isinstance(node.get("workbench"), dict) else {}  # pyright: ignore[reportAssignmentType]
    depth = int(layer) if is_number else -1
    row: dict[str, Any] = dict.fromkeys(NODE_COLUMNS, float("nan"))
    token = clean_text(tokens[pos]) if pos < len(tokens) else ""
    row |= {"file_id": file_id, "kind": kind, "hook_name": clean_text(own.get("hook_name", "")), "layer": depth, "pos": pos, "token": token}
    row["feature"] = -1 if kind == "error" else _feature(node, kind, depth, parts)
    row["node"] = f"error_{depth}_{pos}" if kind == "error" else file_id
    row["label"] = clean_text(own.get("label", node.get("clerp") or ""))
    row["activation"], row["probability"] = _number(node.get("activation")), _number(node.get("token_prob"))
    row |= {name: _number(own.get(name)) for name in NODE_COLUMNS if name.startswith(("effect", "attribution", "slope"))}
    if kind == "logit":
        row["token"] = clean_text(own.get("token", _quoted(row["label"])))
    if own.get("node"):
        row["node"], row["layer"] = clean_text(own["node"]), int(_number(own.get("layer"), depth))
    return row


def _quoted(label: str) -> str:
    """What stands in quotes in it; all of it where nothing does."""
    found = re.search(r'"(.*)"', label)
    return label if found is None else found[1]


def _feature(node: dict[str, Any], kind: str, layer: int, parts: list[str]) -> int:
    """The feature's number: of the id where it is layer_feature_pos, as viewers show it; else as the file has it."""
    given = node.get("feature")
    given = given if isinstance(given, int) and not isinstance(given, bool) else -1
    of_id = int(parts[1]) if len(parts) == 3 and parts[1].isdigit() and len(parts[1]) < 12 else None
    if kind in ("token", "logit") or of_id is None:
        return of_id if of_id is not None else given
    return of_id if given in (of_id, cantor(max(layer, 0), of_id), -1) else given


def _edges(content: dict[str, Any], nodes: pd.DataFrame, name_of: dict[str, list[str]], path: Any) -> pd.DataFrame:
    order = {node: i for i, node in enumerate(nodes["node"])}
    layer, kind = (dict(zip(nodes["node"], nodes[name], strict=True)) for name in ("layer", "kind"))
    links = [_link(link, number, name_of, path) for number, link in enumerate(content["links"])]
    times = Counter((source, target) for source, target, _, _ in links)
    seen: Counter = Counter()
    before: dict[str, int] = {}  # target → where its last link's source stands among the nodes
    after = _next_sources(links, name_of, order)
    rows = []
    for number, (source, target, weight, more) in enumerate(links):
        found = [name for name in name_of[target] if kind[name] != "error"] if len(name_of[target]) > 1 else name_of[target]
        v, choices = found[0], name_of[source]
        if len(choices) > 1:
            u = _which(choices, v, layer, order, before.get(target, -1), after[number], times[source, target], seen[source, target])
            if u is None:
                raise ValueError(
                    f"{path}: {source!r} is the id of a feature and of an error node, and its link to {target!r} could be of either"
                )
        else:
            u = choices[0]
        seen[source, target] += 1
        before[target] = order[u]
        rows.append({"source": u, "target": v, "weight": weight} | more)
    table = pd.DataFrame(rows, columns=["source", "target", "weight", "change", "attributed", "weight_mean"])
    if table.duplicated(["source", "target"]).any():
        twice = table[table.duplicated(["source", "target"])].iloc[0]
        raise ValueError(f"{path}: there are two links from {twice['source']!r} to {twice['target']!r}")
    table = table.astype(dict.fromkeys(("weight", "change", "attributed", "weight_mean"), float) | {"source": object, "target": object})
    return table[list(EDGE_COLUMNS)]


def _which(  # noqa: PLR0913 what is known of one link
    choices: list[str], target: str, layer: dict, order: dict, before: int, after: int, n_times: int, n_seen: int
) -> str | None:
    """The feature or the error, choices in this order; None where the file leaves both."""
    feature, error = choices[0], choices[1]
    if n_times == 2:
        return choices[n_seen] if order[feature] < order[error] else choices[1 - n_seen]
    if layer[target] <= layer[error]:
        return feature
    fits = [name for name in choices if before < order[name] < after]
    return fits[0] if len(fits) == 1 else None


def _next_sources(links: list[tuple[str, str, float, dict]], name_of: dict[str, list[str]], order: dict[str, int]) -> list[int]:
    """For every link where the next source of the same target stands among the nodes, of those whose id is theirs alone."""
    found, after = [0] * len(links), {}
    for number in range(len(links) - 1, -1, -1):
        source, target, _, _ = links[number]
        found[number] = after.get(target, len(order))
        if len(name_of[source]) == 1:
            after[target] = order[name_of[source][0]]
    return found


def _link(link: Any, number: int, name_of: dict[str, list[str]], path: Any) -> tuple[str, str, float, dict[str, float]]:
    if not isinstance(link, dict):
        raise ValueError(f"{path}: link {number} is no object")
    for end in ("source", "target"):
        if not isinstance(link.get(end), str) or link[end] not in name_of:
            raise ValueError(f"{path}: link {number} has the {end} {link.get(end)!r}, which is none of the file's {len(name_of):,} nodes")
    weight = link.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) < MOST:
        raise ValueError(f"{path}: the link from {link['source']!r} to {link['target']!r} weighs {weight!r}, expected a finite number")
    return (
        link["source"],
        link["target"],
        float(weight),
        {name: _number(link.get(name)) for name in ("change", "attributed", "weight_mean")},
    )


def _wanted(content: dict[str, Any], name_of: dict[str, list[str]]) -> dict[str, float]:
    """How much each logit node counts: by its probability; equally where none is given."""
    logits = [node for node in content["nodes"] if KIND_OF.get(str(node.get("feature_type"))) == "logit"]
    given = {name_of[node["node_id"]][0]: max(0.0, _number(node.get("token_prob"), 0.0)) for node in logits}
    total = sum(given.values())
    return {name: value / total if total else 1 / len(given) for name, value in given.items()}


def _groups(supernodes: Any, unique: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Lists of a name and node ids; what names no node of the file is left out, as viewers do."""
    groups: dict[str, tuple[str, ...]] = {}
    for each in supernodes if isinstance(supernodes, list) else ():
        if isinstance(each, list) and each and isinstance(each[0], str):
            members = tuple(dict.fromkeys(unique[node] for node in each[1:] if isinstance(node, str) and node in unique))
            if members:
                groups[clean_text(each[0]) or "unnamed"] = members
    return groups


def _check_acyclic(nodes: pd.DataFrame, edges: pd.DataFrame, path: Any) -> None:
    """Raises ValueError with a node of a cycle: what makes itself has no influence that ends."""
    outgoing: dict[str, list[str]] = {}
    waiting = dict.fromkeys(nodes["node"], 0)
    for source, target in zip(edges["source"], edges["target"], strict=True):
        outgoing.setdefault(source, []).append(target)
        waiting[target] += 1
    free = [node for node, count in waiting.items() if not count]
    n_done = 0
    while free:
        n_done += 1
        for target in outgoing.get(free.pop(), ()):
            waiting[target] -= 1
            if not waiting[target]:
                free.append(target)
    if n_done < len(nodes):
        some = next(node for node, count in waiting.items() if count)
        raise ValueError(f"{path}: the graph has a cycle ({some!r} is on it or behind it); expected links from earlier to later nodes only")


def _number(value: Any, otherwise: float | int = float("nan")) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
    return float(value) if is_number else float(otherwise)
