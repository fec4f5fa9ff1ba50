"""The notebook runs from top to bottom as a user runs it, and is kept without outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "metarl.ipynb"


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert NOTEBOOK.stat().st_size < 20_000


@pytest.mark.filterwarnings("default")  # of Jupyter's own
@pytest.mark.timeout(600)
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, in a kernel of its own and in another folder; fewer iterations than a user's."""
    monkeypatch.setenv("METARL_NOTEBOOK_ITERATIONS", "2")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder)
    notebook = nbformat.read(folder / NOTEBOOK.name, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [o["data"] for o in outputs if o.output_type in ("display_data", "execute_result")]
    assert sum("image/gif" in data for data in pictures) == 2
    assert sum("image/png" in data for data in pictures) == 1
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
    assert "held-out tasks" in "".join(o.get("text", "") for o in outputs if o.output_type == "stream")
