"""What tests share: made_fixtures.py in every process that runs tests, and the last line in the one that has the terminal."""

import jaxtyping
import pytest
from skipped import pytest_unconfigure  # noqa: F401
from type_checks import checked

jaxtyping.jaxtyped = checked  # before anything of the workbench is imported


def pytest_configure(config: pytest.Config) -> None:
    """The process that only hands tests to two others needs none of the libraries under test: both wait while it would import them."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("made_fixtures")
