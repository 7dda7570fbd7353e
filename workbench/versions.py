"""Which versions of what it needs the workbench was tested with, and a line where an installed one lies outside.

TransformerLens and transformers are taken by their insides: what a release changes there shows as other numbers, if at all.
"""

import re
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version

TESTED = {  # package: (oldest, newest), what `make test-oldest` and `make test-newest` install; docs/versions.md shows them
    "torch": ("2.13.0", "2.14.1"),
    "transformer-lens": ("4.3.0", "4.3.0"),
    "transformers": ("5.22.0", "5.24.0"),
    "huggingface-hub": ("1.31.0", "2.4.0"),
    "tokenizers": ("0.23.1", "0.23.3"),
    "safetensors": ("0.8.0", "0.8.0"),
    "pyyaml": ("6.0", "6.0.4"),
    "jaxtyping": ("0.3.11", "0.3.11"),
    "einops": ("0.8.0", "0.8.2"),
    "numpy": ("2.0.0", "2.4.6"),
    "scipy": ("1.13.0", "1.17.1"),
    "scikit-learn": ("1.5.0", "1.9.1"),
    "umap-learn": ("0.5.7", "0.5.12"),
    "numba": ("0.61.0", "0.68.1"),
    "pandas": ("2.2.2", "3.1.1"),
    "pyarrow": ("17.0.0", "26.0.1"),
    "duckdb": ("1.3.0", "2.0.1"),
    "datasets": ("3.0.0", "5.2.0"),
    "plotly": ("6.0.0", "7.1.0"),
    "ipython": ("8.30.0", "9.18.1"),
    "circuitsvis": ("1.43.3", "1.43.3"),
    "anywidget": ("0.11.0", "0.11.0"),
    "traitlets": ("5.14.0", "5.16.1"),
    "jupyterlab": ("4.4.0", "4.6.6"),
    "nbformat": ("5.10.0", "5.11.1"),
    "jinja2": ("3.1.0", "3.1.6"),
    "platformdirs": ("4.0.0", "4.14.8"),
    "tqdm": ("4.66.3", "4.70.1"),
    "typer": ("0.29.0", "0.29.2"),
    "rich": ("13.9.0", "15.0.0"),
}


class UntestedVersion(UserWarning):
    """An installed package is older or newer than any that was tested."""


@cache
def warn_untested() -> None:
    """One warning, once, that names the packages outside; nothing where all are inside."""
    if outside := untested({name: found for name in TESTED if (found := _installed(name))}):
        warnings.warn(f"not tested with {', '.join(outside)}: if numbers surprise you, see docs/versions.md", UntestedVersion, stacklevel=2)


def untested(installed: dict[str, str]) -> list[str]:
    """Those outside, each with the range that was tested. A patch release of the newest counts as tested."""
    found = []
    for name, here in installed.items():
        oldest, newest = TESTED[name]
        if _numbers(here) < _numbers(oldest) or _numbers(here)[:2] > _numbers(newest)[:2]:
            found.append(f"{name} {here} ({oldest} to {newest} were)")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    """2.13.0+cpu → (2, 13, 0)."""
    release = [int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text)[0])]
    return (*release, 0, 0, 0)[:3]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from its sources, without an installation
        return ""
