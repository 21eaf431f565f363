"""docs/notebook.ipynb runs, and its outputs are those of today's program. As a script: run it and keep its outputs.

The cells are executed one after another, as Jupyter does, and without it. A cell with the tag `measured` shows numbers that
depend on the machine's rounding: of its outputs only the words are compared.
"""

import ast
import contextlib
import io
import json
import os
import re
import tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
MAX_BYTES = 200_000  # of the file with its outputs
FORMS = {"text/html": "_repr_html_", "image/svg+xml": "_repr_svg_", "text/plain": "__repr__"}


def executed(source, names):
    """The outputs of a cell: what it prints and, as its result, the forms of its last expression."""
    *before, last = ast.parse(source).body
    before, last = (before, last.value) if isinstance(last, ast.Expr) else ([*before, last], ast.Constant(None))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(before, []), "notebook", "exec"), names)
        result = eval(compile(ast.fix_missing_locations(ast.Expression(last)), "notebook", "eval"), names)
    text = printed.getvalue().splitlines(keepends=True)
    outputs = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
    if result is not None:
        shown = {kind: getattr(result, method)() for kind, method in FORMS.items() if hasattr(result, method)}
        data = {kind: text.splitlines(keepends=True) for kind, text in shown.items()}
        outputs.append({"data": data, "metadata": {}, "output_type": "execute_result"})
    return outputs


def run(folder):
    """The notebook with the outputs of a run in that folder."""
    notebook, names, home = json.loads(NOTEBOOK.read_text(encoding="utf-8")), {}, Path.cwd()
    os.chdir(folder)
    try:
        for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
            cell |= {"execution_count": number, "outputs": executed("".join(cell["source"]), names)}
            for output in cell["outputs"]:
                if output["output_type"] == "execute_result":
                    output["execution_count"] = number
    finally:
        os.chdir(home)
    return notebook


def words(outputs):
    """Outputs without what the rounding of a machine can change: pictures, numbers, and the names of classes and cells."""
    text = re.sub(r"<svg.*?</svg>|base64,[\w+/=]+", "", json.dumps(outputs), flags=re.DOTALL)
    return re.sub(r"hash [0-9a-f]+", "hash", re.sub(r"-?\d+(\.\d+)?", "0", text))


def test_the_notebook_runs_and_shows_what_it_says(tmp_path):
    kept = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    found = run(tmp_path)
    for cell, again in zip(kept["cells"], found["cells"], strict=True):
        measured = "measured" in cell["metadata"].get("tags", ())
        shown = words if measured else json.dumps
        advice = "run tests/test_notebook.py as a script"
        assert shown(cell.get("outputs")) == shown(again.get("outputs")), f"{cell['id']}: {advice}"
    assert {kind for cell in kept["cells"] for out in cell.get("outputs", ()) for kind in out.get("data", ())} == set(FORMS)
    assert NOTEBOOK.stat().st_size < MAX_BYTES


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(run(folder), indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")
