"""Shapes and types are checked under pytest at every call of a function with annotations.

jaxtyping's own wrapper is built to explain: it binds arguments and checks twice, 60 µs a call, and wraps functions inside of functions
anew each time that they are made, 1 ms. All tests took twice as long. Here beartype checks once, with jaxtyping's memory of axes where
a signature names some, and functions inside of functions are left as they are.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Self, get_args, get_type_hints

import jaxtyping

by_jaxtyping = jaxtyping.jaxtyped
axes_in_common = functools.partial(jaxtyping.jaxtyped, "context")


def checked(made: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """In the place of jaxtyping.jaxtyped, which its import hook calls by name wherever something is defined."""
    if made is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(made):
        if dataclasses.is_dataclass(made) and "__init__" in vars(made):
            made.__init__ = checked(made.__init__, typechecker=typechecker)
        return made
    if not inspect.isfunction(made) or "<locals>" in made.__qualname__:
        return made
    if inspect.isgeneratorfunction(made):  # beartype would check its arguments later, among the axes of whoever runs it
        return by_jaxtyping(made, typechecker=typechecker)
    hints = {name: known(hint, made.__globals__) for name, hint in made.__annotations__.items()}
    own, made.__annotations__ = made.__annotations__, hints
    by_type = typechecker(made)
    made.__annotations__ = by_type.__annotations__ = own
    if not any(has_axes(hint) for hint in hints.values()):
        return by_type

    @functools.wraps(made)
    def by_shape(*args: Any, **kwargs: Any) -> Any:
        with axes_in_common():
            return by_type(*args, **kwargs)

    return by_shape


def known(hint: Any, names: dict[str, Any]) -> Any:
    """What is imported for type checkers only cannot be looked up, nor the class that a method is defined in: anything then."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        found = get_type_hints(holder, names, include_extras=True)["hint"]
    except (NameError, AttributeError):
        return Any
    return Any if found is Self else found


def has_axes(hint: Any) -> bool:
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(has_axes(each) for each in get_args(hint))
