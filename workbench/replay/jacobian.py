"""The Jacobian between two hook points at the clean prompt, as products with many vectors on both sides.

    products[u, v] = cotangent_v · ∂x_b[pos_v]/∂x_a[pos_u] · tangent_u

Two ways, the same to rounding:

    whole   copies of the prompt, a row for each v, and one backward pass through all of them
    cut     where the two are one block of the residual stream apart. A v at position q needs that block's query and MLP at q only, and
            a u at position p < q reaches it through its own key and value only: the backward pass ends at the keys and values, a forward
            derivative takes each u to its key and value, and the two meet in one matrix product. A seventh of the arithmetic at 16 tokens.

Whether `cut` applies is measured on the first products of every stretch.
"""

from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import forward_ad

from workbench.model.callers import alone
from workbench.model.gemm import machine_rate
from workbench.model.hooks import hooked, last_logits
from workbench.model.memory import objection
from workbench.replay.arguments import POS_AXIS
from workbench.replay.between import Between
from workbench.replay.past import Keys
from workbench.replay.tail import _KeysKnown

PosU = Int[Tensor, "n_tangents"]
PosV = Int[Tensor, "n_cotangents"]
Tangents = Float[Tensor, "n_tangents d_first"]
Cotangents = Float[Tensor, "n_cotangents d_then"]
Products = Float[Tensor, "n_tangents n_cotangents"]


class Jacobian:
    """Between two of the hook points of a Between. way: the faster one, where it was seen to give what the plain one gives."""

    def __init__(self, between: Between, first: str, then: str, way: str = "cut"):
        self.between, self.first, self.then = between, first, then
        (block, is_inner), (last, ends_inside) = between._place[first], between._place[then]
        is_one_block = between.way == "prefix" and not is_inner and not ends_inside and last == block + 1
        self.block, self.way, self.why_not = block, way if is_one_block else "whole", ""
        self._is_checked = False

    def products(self, pos_u: PosU, tangents: Tangents, pos_v: PosV, cotangents: Cotangents) -> Products:
        """All of them; positions are sorted. Float32 at least."""
        if self.first == self.then:
            return (tangents @ cotangents.T) * (pos_u[:, None] == pos_v)
        with alone(self.between.model), self.between.in_float32:
            if self.way == "cut" and not self._is_checked and len(pos_u) and len(pos_v):
                self._check(pos_u, tangents, pos_v, cotangents)
            way = self._whole if self.way == "whole" else self._cut
            return way(pos_u, tangents, pos_v, cotangents)

    def _check(self, pos_u: PosU, tangents: Tangents, pos_v: PosV, cotangents: Cotangents) -> None:
        """On a few of either side, the last ones (what they attend to is longest) among them."""
        u, v = _some(pos_u), _some(pos_v)
        few = pos_u[u], tangents[u], pos_v[v], cotangents[v]
        self._is_checked = True
        try:
            difference = (self._cut(*few) - (expected := self._whole(*few))).abs().max()
            if not difference <= 1e-3 * expected.abs().max():
                self.why_not = f"products differ by {difference:.2g} of {expected.abs().max():.2g}"
        except Exception as error:  # what an unknown architecture objects to: the plain way is right for it
            self.why_not = objection("cut", error)
        if self.why_not:
            self.way = "whole"

    def _whole(self, pos_u: PosU, tangents: Tangents, pos_v: PosV, cotangents: Cotangents) -> Products:
        parts = [torch.empty(len(pos_u), 0, dtype=tangents.dtype, device=tangents.device)]
        for some in torch.arange(len(pos_v), device=pos_v.device).split(max(1, self.between.n_rows(0) // 2)):
            gradient = self._pulled_back(pos_v[some], cotangents[some]).to(tangents.dtype)
            mine = torch.empty(len(pos_u), len(some), dtype=tangents.dtype, device=tangents.device)
            for p in pos_u.unique().tolist():
                mine[pos_u == p] = tangents[pos_u == p] @ gradient[:, p].T
            parts.append(mine)
        return torch.cat(parts, dim=1)

    def _pulled_back(self, pos: PosV, cotangents: Cotangents) -> Float[Tensor, "n_cotangents pos d_first"]:
        """cotangent · ∂x_b[pos]/∂x_a, at every position of a."""
        between, found = self.between, []
        rows = torch.arange(len(pos), device=pos.device)
        x = between.clean_at[self.first].expand(len(pos), -1, -1).clone().requires_grad_()

        with torch.enable_grad(), machine_rate():
            (block, is_inner), (last, ends_inside) = between._place[self.first], between._place[self.then]
            if between.way == "forward" or is_inner or ends_inside:
                with (
                    hooked(between.model, self.then, lambda value: found.append(value.flatten(2).clone())),
                    hooked(between.model, self.first, lambda value: x.view_as(value).clone()),
                ):
                    last_logits(between.model, between.tokens.expand(len(pos), -1))
                y = found[0]
            else:
                y = x
                for k in range(block, last):
                    y = between._block(k, y, 0)
            at = (y[rows, pos] * cotangents.to(y.dtype)).sum()
            return torch.autograd.grad(at, x)[0]

    def _cut(self, pos_u: PosU, tangents: Tangents, pos_v: PosV, cotangents: Cotangents) -> Products:
        keys, values = self._moved(pos_u, tangents)
        parts = [torch.empty(len(pos_u), 0, dtype=tangents.dtype, device=tangents.device)]
        n_rows = self.between.n_rows(self.between.n_pos - 1)
        for q in pos_v.unique().tolist():
            before, here = int((pos_u < q).sum()), int((pos_u <= q).sum())
            for some in (pos_v == q).nonzero()[:, 0].split(n_rows):
                d_keys, d_values, d_x = self._query(q, cotangents[some])
                mine = torch.zeros(len(pos_u), len(some), dtype=tangents.dtype, device=tangents.device)
                begin = 0
                for p, count in zip(*(part.tolist() for part in pos_u[:before].unique_consecutive(return_counts=True)), strict=True):
                    us = slice(begin, begin + count)
                    mine[us] = (keys[us] @ d_keys[:, :, p].flatten(1).T + values[us] @ d_values[:, :, p].flatten(1).T).to(mine.dtype)
                    begin += count
                mine[before:here] = tangents[before:here] @ d_x.to(tangents.dtype).T
                parts.append(mine)
        return torch.cat(parts, dim=1)

    def _query(self, q: int, cotangents: Cotangents) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of cotangent · the block's output at q: to the keys and values before q, and to x at q, which has a key there too."""
        n, between = len(cotangents), self.between
        clean = [part[:, :, :q].expand(n, -1, -1, -1).clone() for part in between._past.keys_values[self.block]]
        x = between.clean_at[self.first][q : q + 1].expand(n, -1, -1).clone()
        leaves = [part.requires_grad_() for part in (*clean, x)]
        cache = Keys(lambda k, v, layer: (torch.cat([clean[0], k], dim=2), torch.cat([clean[1], v], dim=2)), q)
        with torch.enable_grad(), machine_rate():
            y = self._at(q, x, cache, n_keys=q + 1)
            d_keys, d_values, d_x = torch.autograd.grad(y, leaves, cotangents[:, None].to(y.dtype))
        return d_keys, d_values, d_x[:, 0]

    def _moved(self, pos: PosU, tangents: Tangents) -> tuple[Tensor, Tensor]:
        """How each tangent at its position moves the key and the value there, all heads side by side."""
        keys, values = [], []
        for p in pos.unique().tolist():
            mine = tangents[pos == p][:, None]
            known: list[tuple[Tensor, Tensor]] = []

            def leave(k: Tensor, v: Tensor, layer: int, known: list = known):
                known.append((k, v))
                raise _KeysKnown

            with torch.no_grad(), forward_ad.dual_level():
                x = self.between.clean_at[self.first][p : p + 1].expand(len(mine), -1, -1)
                dual = forward_ad.make_dual(x.clone(), mine.to(x.dtype))
                with suppress(_KeysKnown):
                    self._at(p, dual, Keys(leave, p), n_keys=p + 1)
                key, value = (forward_ad.unpack_dual(part).tangent for part in known[0])
                assert key is not None and value is not None, "a key or value does not depend on its token"
            keys.append(key.flatten(1))
            values.append(value.flatten(1))
        return torch.cat(keys), torch.cat(values)

    def _at(self, q: int, x: Tensor, cache: Keys, n_keys: int) -> Tensor:
        """The block at position q alone, which attends to the first n_keys positions."""
        kwargs = {name: _at_position(name, value, q, n_keys) for name, value in self.between._kwargs[self.block].items()}
        kwargs[self.between._cache_names[self.block]] = cache
        y = self.between.model.blocks[self.block](x, **kwargs)
        return y[0] if isinstance(y, tuple | list) else y


def _at_position(name: str, value: Any, q: int, n_keys: int) -> Any:
    """A block's keyword argument for position q alone. Axes of size 1 are for all positions."""
    if isinstance(value, tuple):
        return tuple(_at_position(name, part, q, n_keys) for part in value)
    if not isinstance(value, Tensor):
        return value
    axis = POS_AXIS[name]
    if axis is None:
        return value[..., :n_keys]
    value = value if value.shape[axis] == 1 else value.narrow(axis, q, 1)
    return value[..., :n_keys] if name == "attention_mask" and value.shape[-1] > 1 else value


def _some(pos: Tensor) -> Tensor:
    """Indices of four of them, spread over all."""
    return torch.linspace(0, len(pos) - 1, min(4, len(pos)), device=pos.device).round().long().unique()
