"""nbval executes each notebook, a test a cell; what an output shows is compared as a reader would (tests/made/shown.py), not by the byte:
its own comparison knows neither a last digit nor pictures."""

from collections.abc import Callable

from nbval.plugin import IPyNbCell
from notebook_claims import CLAIMS, with_claims
from shown import differences, is_trained


def compare_outputs(self: IPyNbCell, test: list, ref: list, skip_compare: tuple | None = None) -> bool:
    """nbval's question: is what was executed (`test`) what is committed (`ref`)?"""
    found = differences(ref, test, is_trained(self.parent.path.stem, self.cell.execution_count or 0))
    self.comparison_traceback = [f"{each}\n(`make notebooks` executes them anew)" for each in found]
    return not found


IPyNbCell.compare_outputs = compare_outputs


def runtest(self: IPyNbCell, run: Callable[[IPyNbCell], None] = IPyNbCell.runtest) -> None:
    """The cell, and in the same breath what is claimed of it (tests/made/notebook_claims.py)."""
    claims = CLAIMS.get(self.parent.path.stem, {}).get(self.cell.execution_count or 0, "")
    self.cell.source = with_claims(self.cell.source, claims)
    run(self)


IPyNbCell.runtest = runtest
