"""Execute notebooks anew, in place, from a fresh kernel, and keep only what a second run would give again, byte for byte.

python -m notebooks.execute notebooks/01_why_sacramento.ipynb …
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"  # a live widget's number in its kernel; the static form beside it stays


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    options = dict(record_timing=False, store_widget_state=False, coalesce_streams=True, timeout=600)
    NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, **options).execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not is_bar(output)]
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    nbformat.write(notebook, path)


def is_bar(output: nbformat.NotebookNode) -> bool:
    """A progress bar: live, and on a static page only a line with the seconds that it happened to take."""
    return output.output_type == "display_data" and set(output.data) == {WIDGET, "text/plain"}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
        print(f"{name}: {Path(name).stat().st_size:,} bytes")
