"""Who may import whom, and what must answer without torch."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "darts_cli"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
LEAVES = {"__init__", "config", "describe", "files", "genotype", "schema", "settings", "spaces", "text"}
FRONT = {
    "commands",
    "use",
    "plans",
    "sweeps",
    "cnn",
    "rnn",
    "methods",
    "legacy",
    "pictures",
    "runs",
    "runtime",
    "formats",
    "architect",
    "guard",
}
PLAIN_PARTS = {
    "methods.catalogue",
    "methods.combinations",
    "methods.spec",
    "guard.rules",
    "formats.sizes",
}  # that configurations read
DRAWN = {"pictures.cells", "pictures.charts", "pictures.colours"}  # that reports of runs show
# Whoever stands on the left may import what stands on the right, also by way of others; a folder may import its own modules.
RULES = {
    "__main__": {"cli", *FRONT},
    "cli": FRONT,
    "commands": FRONT,
    "use": {"cnn", "rnn", "methods", "guard", "legacy", "runs", "runtime", "formats", "architect", *DRAWN},
    "plans": {"sweeps", "runs", "runtime", "formats", "methods", *DRAWN},
    "sweeps": {"runs", "runtime", "formats", "methods.derive", *DRAWN},
    "cnn": {"guard", "methods", "legacy", "runs", "runtime", "formats", "architect", *DRAWN},
    "rnn": {"guard", "methods", "legacy", "runs", "runtime", "formats", "architect", *DRAWN},
    "methods": {"runtime.schedules"},
    "legacy": {"runs", "runtime", "formats", "methods.derive", *DRAWN},
    "pictures": {"formats", "runs.history", "runs.identity", "runs.task", "runs.shown.illustrations"},
    "runs": {"runtime", "formats", "methods.derive", *DRAWN},
    "runtime": set(),
    "guard": set(),
    "formats": set(),
    "architect": set(),
    **{leaf: set() for leaf in LEAVES},
}


@functools.cache
def imports(module):
    """The modules it imports, anywhere in its text, with the names taken from this package resolved to modules."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {f"darts_cli.{name}" for name in MODULES}
            found |= (inner & known) or {node.module}
    return found


@functools.cache
def of_this_package(module):
    found = {name.removeprefix("darts_cli").removeprefix(".") or "__init__" for name in imports(module) if is_ours(name)}
    return {name if name in MODULES else f"{name}.__init__" for name in found}


def is_ours(name):
    return name == "darts_cli" or name.startswith("darts_cli.")


def reached(module):
    """Every module that it imports, or that one of these imports."""
    found, waiting = set(), [module]
    while waiting:
        new = of_this_package(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def from_outside(*modules):
    outside = {name.split(".")[0] for module in modules for name in imports(module) if not is_ours(name)}
    return outside - set(sys.stdlib_module_names)


def allowed(module, other):
    home = module.split(".")[0]
    rights = RULES[home] | LEAVES | {home} | PLAIN_PARTS
    if home in LEAVES | {"architect"}:
        rights = {"architect"} if home == "architect" else LEAVES | PLAIN_PARTS
    return any(other == right or other.startswith(f"{right}.") for right in rights)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_the_house(module):
    assert sorted(other for other in reached(module) if not allowed(module, other)) == []


@pytest.mark.parametrize("module", MODULES)
def test_no_imports_run_in_a_circle(module):
    assert module not in reached(module)


def test_every_module_has_a_rule():
    assert {name.split(".")[0] for name in MODULES} == set(RULES)


def test_the_architect_knows_torch_only():
    assert from_outside("architect") == {"torch"}


PLAIN = [name for name in MODULES if name.split(".")[0] in LEAVES]


@pytest.mark.parametrize("module", [*PLAIN, "formats.genotypes", "formats.nasbench201", "methods.derive", "runs.history"])
def test_plain_modules_need_yaml_at_most(module):
    assert from_outside(module, *reached(module)) <= {"yaml"}


def test_folders_files_and_functions_are_small():
    """At most 12 files in a folder, 300 lines in a file, 60 in a function."""
    for folder in {path.parent for path in MODULES.values()}:
        assert len([path for path in folder.iterdir() if path.is_file()]) <= 12, folder
    for path in MODULES.values():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno + 1 <= 60, f"{path}: {node.name}"


OWN_FILES = {"use.export.programs": "torch.export.load"}  # what a module reads only where it has just written it


@pytest.mark.parametrize("module", MODULES)
def test_nothing_from_outside_is_executed(module):
    """No eval, exec, pickle.load, yaml.load or shell, and torch.load only as its restricted reader."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) == OWN_FILES.get(module):
            continue
        assert forbidden(node) is None, f"line {node.lineno}: {forbidden(node)}"


def forbidden(call):
    """What a call must not be, if it is that."""
    name, given = ast.unparse(call.func), {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in ("eval", "exec", "compile", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "os.system"):
        return name
    if given.get("shell", "False") != "False":
        return f"{name}(shell=...)"
    if name.split(".")[-1] == "load" and name.split(".")[0] == "torch" and given.get("weights_only") != "True":
        return f"{name} without weights_only=True"
    return None


FORBIDDEN = ["eval('1')", "exec(text)", "pickle.loads(b)", "yaml.load(f)", "run('ls', shell=True)", "torch.load(f)"]


@pytest.mark.parametrize("line", [*FORBIDDEN, "torch.load(f, weights_only=False)", "torch.export.load(f)"])
def test_what_is_forbidden_is_found(line):
    assert forbidden(ast.parse(line).body[0].value) is not None


def test_packages_re_export_nothing():
    for name, path in MODULES.items():
        if name.endswith(".__init__"):
            assert path.read_text(encoding="utf-8").strip() == ""


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["search", "--help"],
        ["search", "cnn", "--help"],
        ["train", "cnn", "--help"],
        ["search", "rnn", "--help"],
        ["train", "rnn", "--help"],
        ["plan", "search", "cnn", "--help"],
        ["eval", "--help"],
        ["genotype", "list"],
        ["genotype", "show", "enas"],
        ["genotype", "diff", "nasnet", "amoebanet"],
        ["genotype", "random", "cnn"],
        ["genotype", "random", "cnn", "--space", "nas-bench-201"],
        ["space", "list"],
        ["space", "show", "s1"],
        ["space", "validate", str(PACKAGE.parent / "spaces" / "s4.yaml")],
        ["genotype", "convert", "nasnet", "--to", "python"],
        ["visualize", "--help"],
        ["visualize", "enas", "--format", "text"],
        ["visualize", "nasnet", "--format", "dot"],
        ["visualize", "nasnet", "--format", "svg"],
        ["visualize", "nasnet", "--format", "pdf"],
        ["genotype", "validate", str(PACKAGE.parent / "genotypes" / "cnn" / "NASNet.yaml")],
    ],
    ids=" ".join,
)
def test_answers_without_torch(args, tmp_path):
    program = (
        "import sys; from darts_cli.cli import main\n"
        "try: main(sys.argv[1:], prog_name='darts')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "unwanted = ['torch', 'torchvision', 'numpy', 'matplotlib', 'PIL']\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & set(unwanted)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
