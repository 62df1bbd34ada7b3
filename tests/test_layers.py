"""The house rules that a reader relies on: imports go down the layers only, files and functions stay small, and
nothing runs code that comes with data."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import graft

SRC = Path(graft.__file__).parent
FILES = sorted(SRC.rglob("*.py"))

# As DESIGN has them. The name is that of a folder or of a file beside the folders.
LAYERS = {
    **dict.fromkeys(("errors", "records", "config", "sections", "runtime", "terminal"), 0),
    **dict.fromkeys(("staging", "tensor_file", "signals", "lock"), 0),
    **dict.fromkeys(("data", "forest", "model", "adapters", "seedling"), 1),
    **dict.fromkeys(("training", "infer", "plan"), 2),
    **dict.fromkeys(("bench", "evaluation", "serve", "report"), 3),
    **dict.fromkeys(("commands", "cli", "cli_data", "cli_options", "cli_synth", "__init__", "__main__"), 4),
}
# Layer 0 is a handful of files and layer 4 wires all together; in between a folder knows itself and what is below.
OPEN_LAYERS = {0, 4}

LONGEST_FILE, LONGEST_FUNCTION = 300, 60
CATCH_ALLS = {"utils", "util", "helpers", "helper", "common", "misc"}
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# What reads or writes pickle. An importer of foreign checkpoints may call torch.load with weights_only=True: when there
# is one, it is allowed here by name.
UNPICKLING = {"torch.load", "torch.save", "torch.jit.load", "torch.package", "np.load", "numpy.load"}


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported anywhere in `tree`, which is part of `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def owner_of(name: str) -> str:
    """The folder or file of ours that `name` belongs to; the package itself for what it offers (`graft.train`)."""
    part = name.split(".")[1] if "." in name else "__init__"
    return part if part in LAYERS else "__init__"


def layer_faults(owner: str, package: str, source: str) -> list[str]:
    if owner not in LAYERS:
        return [f"{owner} is in no layer"]
    faults = []
    for line, name in imported(ast.parse(source), package):
        if name.split(".")[0] != "graft" or name == "graft.__version__":
            continue
        used = owner_of(name)
        same = used == owner or (LAYERS[used] == LAYERS[owner] and LAYERS[owner] in OPEN_LAYERS)
        if not same and LAYERS[used] >= LAYERS[owner]:
            faults.append(f"line {line}: {owner} (layer {LAYERS[owner]}) imports {used} (layer {LAYERS[used]})")
    return faults


def size_faults(source: str) -> list[str]:
    lines = len(source.splitlines())
    faults = [f"{lines} lines"] if lines > LONGEST_FILE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                faults.append(f"line {node.lineno}: {node.name} has {length} lines")
    return faults


def danger_faults(source: str) -> list[str]:
    """Where `source` could run code that comes with data: unpickling, evaluation, a shell, a model's own code."""
    tree = ast.parse(source)
    faults = []
    for line, name in imported(tree, "graft"):
        if name.split(".")[0] in PICKLERS or name in UNPICKLING | {"os.system"}:
            faults.append(f"line {line}: imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLING | {"os.system", "os.popen"}:
            faults.append(f"line {node.lineno}: {ast.unparse(node)}")
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            faults.append(f"line {node.lineno}: {node.func.id}()")
        for keyword in node.keywords:
            refused = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg in ("shell", "trust_remote_code") and not refused:
                faults.append(f"line {node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}")
    return faults


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    parts = path.relative_to(SRC).with_suffix("").parts
    package = ".".join(("graft", *parts[:-1]))
    assert not layer_faults(parts[0], package, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_fit_a_head_and_run_nothing_that_comes_with_data(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not size_faults(source) + danger_faults(source)


def test_no_file_or_folder_is_a_catch_all() -> None:
    assert not [name_of(path) for path in SRC.rglob("*") if path.stem in CATCH_ALLS]


# The checks themselves.


@pytest.mark.parametrize(
    ("owner", "source"),
    [
        ("data", "from graft.forest import plant"),
        ("data", "import graft.training.loop"),
        ("data", "def f():\n    from graft.model.load import load_base"),
        ("data", "if TYPE_CHECKING:\n    from graft.cli import app"),
        ("data", "from ..adapters import Bank"),
        ("data", "from .. import train"),
        ("data", "from graft import load"),
        ("data", "import graft"),
        ("config", "from graft.data import read_rows"),
        ("training", "from graft.infer import Engine"),
        ("infer", "from graft.report.html import write_report"),
        ("evaluation", "from graft.report import cells"),
        ("report", "from graft.commands import console"),
        ("helpers_of_mine", "import json"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(owner: str, source: str) -> None:
    assert len(layer_faults(owner, f"graft.{owner}", source)) == 1


@pytest.mark.parametrize(
    ("owner", "source"),
    [
        (
            "data",
            "from graft.data.read import read_rows\nfrom .template import Template\nfrom ..errors import DataError",
        ),
        ("training", "from graft.forest import plant\nimport torch, json"),
        ("evaluation", "from graft.infer import Engine"),
        ("runtime", "from graft import __version__\nfrom graft.errors import GraftError"),
        ("cli", "from graft.commands import console\nimport grafting"),
    ],
)
def test_an_import_that_goes_down_is_allowed(owner: str, source: str) -> None:
    assert not layer_faults(owner, f"graft.{owner}", source)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill",
        "eval('1')",
        "exec(text)",
        "subprocess.run(command, shell=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "AutoModel.from_pretrained(path, trust_remote_code=trusted)",
        "torch.load(path)",
        "read = torch.load",
        "from torch import load",
        "torch.save(state, path)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "os.system('ls')",
    ],
)
def test_what_runs_code_of_data_is_found(source: str) -> None:
    assert len(danger_faults(source)) == 1


def test_what_only_looks_like_it_is_allowed() -> None:
    assert not danger_faults(
        "model.eval()\njson.load(file)\nload_file(path)\nsubprocess.run(['ls'], shell=False)\n"
        "AutoModel.from_pretrained(path, trust_remote_code=False)\n'no pickle, no eval(, no torch.load'\n"
    )


def test_long_files_and_functions_are_found() -> None:
    body = "    pass\n"
    assert size_faults("x = 1\n" * LONGEST_FILE) == []
    assert size_faults("x = 1\n" * (LONGEST_FILE + 1)) == ["301 lines"]
    assert size_faults("def f():\n" + body * (LONGEST_FUNCTION - 1)) == []
    assert size_faults("class A:\n  async def f(self):\n" + body * LONGEST_FUNCTION) == ["line 2: f has 61 lines"]
