"""An edit belongs to who asked for it: other threads and tasks see the model as it is, and nothing of it is left, whatever happened."""

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from made_models import n_hooks, random_sae

from workbench.circuits.intervene import editing
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.attribution import gradient_at
from workbench.model import callers
from workbench.model.hooks import seen
from workbench.model.points import installed
from workbench.replay.replay import Replay

RESID = "blocks.1.hook_resid_pre"


def in_thread(call: Callable[[], Any]) -> Any:
    """What it returns in another thread; an error of it is raised here."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits for ever"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def test_another_thread_goes_through_an_idle_clamp_and_is_clean(model, tokens, sae):
    clean = model(tokens)
    with editing(model, sae, {3: 7.0}):
        assert not torch.equal(model(tokens), clean)
        assert torch.equal(in_thread(lambda: model(tokens)), clean)
        assert in_thread(lambda: installed(model)) == [] != installed(model)
        assert in_thread(lambda: Replay(model, RESID, tokens)).way == "prefix"
    assert torch.equal(model(tokens), clean)


def in_a_loop(coroutine: Any) -> Any:
    """What it gives, in a thread of its own: a browser's tests leave this one a loop that runs."""
    return in_thread(lambda: asyncio.run(coroutine))


def test_each_task_of_one_thread_sees_its_own_clamp_over_its_awaits(model, tokens, sae):
    def clamped(value: float) -> torch.Tensor:
        with editing(model, sae, {3: value}):
            return model(tokens)

    async def task(value: float | None) -> torch.Tensor:
        if value is None:
            await asyncio.sleep(0)
            return model(tokens)
        with editing(model, sae, {3: value}):
            for _ in range(3):
                await asyncio.sleep(0)
            return model(tokens)

    async def both() -> list[torch.Tensor]:
        return await asyncio.gather(task(7.0), task(None), task(2.0))

    expected = [clamped(7.0), model(tokens), clamped(2.0)]
    assert all(map(torch.equal, in_a_loop(both()), expected))


def test_a_thread_that_is_handed_the_context_sees_the_clamp(model, tokens, sae):
    async def inside() -> torch.Tensor:
        with editing(model, sae, {3: 7.0}):
            return await asyncio.to_thread(model, tokens)

    with editing(model, sae, {3: 7.0}):
        expected = model(tokens)
    assert torch.equal(in_a_loop(inside()), expected)


def test_a_users_hooks_of_a_call_are_the_threads_and_those_that_stay_are_for_every_pass_but_ours_elsewhere(model, tokens, sae):
    passes: list[str] = []
    with model.hooks(fwd_hooks=[(RESID, lambda x, hook: passes.append("hooks"))]):
        in_thread(lambda: model(tokens))
        assert passes == []
        model(tokens)
        assert passes == ["hooks"]
    model.add_hook(RESID, lambda x, hook: passes.append("add_hook"))
    try:
        in_thread(lambda: model(tokens))
        assert passes.pop() == "add_hook"
        in_thread(lambda: Replay(model, "blocks.2.hook_resid_pre", tokens))
        with editing(model, sae, {3: 7.0}):
            assert passes == ["hooks"]
            model(tokens)
        assert passes == ["hooks", "add_hook"]
        assert RESID in installed(model) and in_thread(lambda: installed(model)) == []
    finally:
        model.reset_hooks()
    assert installed(model) == []


def test_a_users_backward_hook_does_not_see_another_threads_gradient(model, tokens):
    seen_here: list[float] = []

    def gradient() -> torch.Tensor:
        return gradient_at(model, RESID, tokens, logit_diff(3, 4)).gradient

    expected = gradient()
    with model.hooks(bwd_hooks=[("blocks.2.hook_resid_pre", lambda gradient, hook: seen_here.append(1.0))]):
        assert torch.equal(in_thread(gradient), expected) and not seen_here
        gradient()
    assert seen_here == [1.0]


def test_nobodys_reset_takes_another_ones_hook_away(model, tokens, sae):
    with editing(model, sae, {3: 7.0}):
        edited = model(tokens)
        in_thread(model.reset_hooks)
        assert torch.equal(model(tokens), edited)


def test_a_generation_by_steps_is_as_alone_while_others_run_the_model(model, tokens):
    options = dict(max_new_tokens=5, do_sample=False, stop_at_eos=False, return_type="tokens")
    alone = torch.cat(list(model.generate_stream(tokens, **options)), dim=1)
    among = []
    for step in model.generate_stream(tokens, **options):
        among.append(step)
        in_thread(lambda: model(tokens[:, :4]))
    assert torch.equal(torch.cat(among, dim=1), alone)


def test_nothing_is_left_by_ctrl_c_at_any_line_of_the_clamps_own_code(model, tokens, sae):
    before, clean, n = n_hooks(model), model(tokens), 1
    while _broken_off(model, tokens[:, :2], sae, n):
        assert n_hooks(model) == before and not callers._WHO.get() and not callers.has_turn(model), f"after line {n}"
        n += 1
    assert n > 40 and torch.equal(model(tokens), clean)


def _broken_off(model: Any, tokens: torch.Tensor, sae: Any, n: int) -> bool:
    """Was there an n-th line or call in what enters and leaves the block? There it is broken off."""
    n_met = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal n_met
        if not frame.f_code.co_filename.endswith(("callers.py", "intervene.py", "shared.py", "hook_points.py")):
            return None
        n_met += event in ("call", "line")
        if n_met == n and event in ("call", "line"):
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    clamp, outer = editing(model, sae, {3: 7.0}), sys.gettrace()
    try:
        sys.settrace(trace)
        with clamp:
            sys.settrace(None)
            model(tokens)
            sys.settrace(trace)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(outer)
        while callers.HANDLES._is_owned():  # a trace breaks off between a with block and its __exit__, where no signal can
            callers.HANDLES.release()
    return n_met >= n


def test_a_hook_that_nobody_takes_out_goes_with_its_block(model):
    before = n_hooks(model)
    block = seen(model, RESID, lambda x: None)
    block.__enter__()
    assert n_hooks(model) == before + 1
    del block
    assert n_hooks(model) == before


def test_whoever_waits_comes_before_who_comes_back(model):
    order: list[str] = []
    with callers.alone(model):
        waiting = threading.Thread(target=lambda: _noted(model, order, "waited"))
        waiting.start()
        while not callers._TURNS[model]._next.locked():
            pass
    _noted(model, order, "came back")
    waiting.join(60)
    assert order == ["waited", "came back"]


def _noted(model: Any, order: list[str], name: str) -> None:
    with callers.alone(model):
        order.append(name)


def test_a_clamp_in_a_clamp_is_applied_to_what_the_outer_one_left(model, tokens):
    sae = random_sae(RESID)
    _, cache = model.run_with_cache(tokens, names_filter=RESID)
    x = cache[RESID]
    outer = x + (7.0 - sae.encode(x)[..., 3, None]) * sae.W_dec[3]
    for feature, value in ((3, 2.0), (8, 5.0)):
        inner = outer + (value - sae.encode(outer)[..., feature, None]) * sae.W_dec[feature]
        with editing(model, sae, {3: 7.0}), editing(model, sae, {feature: value}):
            _, cache = model.run_with_cache(tokens, names_filter=RESID)
        torch.testing.assert_close(cache[RESID], inner, rtol=1e-4, atol=1e-4)
