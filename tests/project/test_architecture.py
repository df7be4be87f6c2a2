"""The architecture, held by tests.

They say which room may import which, how large files and functions may be, who prints, and how modules are named and
imported. A room is a package whose files belong together. An import inside a function or under TYPE_CHECKING is an
arrow like any other: who reads the code follows it, too. Every rule has a twin that shows that a violation is found.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import pytest

from support.sources import (
    Module,
    cycle,
    distant_imports,
    functions,
    imports,
    is_command,
    module_of,
    offered_functions,
    parameters,
    prints,
    read_modules,
)

# The rooms of lsq_export from the lowest to the highest: each may import those before it, and all of calib.
# `lsq_export` itself is the __init__ that offers the public names.
ORDER = (
    "lsq_export.version",
    "lsq_export.files",
    "lsq_export.progress",
    "lsq_export.threads",
    "lsq_export.kernels",
    "lsq_export.models",
    "lsq_export.data",
    "lsq_export.qat",
    "lsq_export.training",
    "lsq_export.graph",
    "lsq_export.targets",
    "lsq_export.rewrite.contract",
    "lsq_export.rewrite.normalizing",
    "lsq_export.rewrite.folding",
    "lsq_export.integer",  # tables are what the reference computes; ONNX Runtime runs the operators they stand for
    "lsq_export.rewrite.lowering",
    "lsq_export.rewrite",
    "lsq_export.verification",
    "lsq_export.bundle",
    "lsq_export.signing",
    "lsq_export.inspection",
    "lsq_export.adoption",
    "lsq_export.checkpoints",
    "lsq_export.linting",
    "lsq_export.interchange",
    "lsq_export.replaying",
    "lsq_export.webpage",
    "lsq_export.ptq",
    "lsq_export.reconstruction",
    "lsq_export.bench",
    "lsq_export.report",
    "lsq_export.mixed_up",
    "lsq_export.pipeline",
    "lsq_export.adopting",
    "lsq_export.calibrating",
    "lsq_export",
    "lsq_export.models.paper",
    "lsq_export.cli",
)
# The rooms of calib and what each may import: two branches on one trunk. `calib.base` is no package: it stands for the
# modules that lie directly in calib/. `calib` itself is the __init__ that offers the public names.
TRUNK = frozenset({"calib.base", "calib.statistics"})
CALIB: dict[str, frozenset[str]] = {
    "calib.base": frozenset(),
    "calib.statistics": frozenset({"calib.base"}),
    "calib.initialization": TRUNK,
    "calib.drift": TRUNK | {"calib.initialization"},
    "calib.folding": TRUNK,
    "calib.rounding": TRUNK | {"calib.folding"},
}
CALIB["calib"] = frozenset(CALIB)
ALLOWED: dict[str, frozenset[str]] = {
    **CALIB,
    **{room: frozenset({*CALIB, *ORDER[:index]}) for index, room in enumerate(ORDER)},
    "lsq_export.version": frozenset(),
    "lsq_export.models": frozenset({"calib.base"}),  # architectures are plain PyTorch
    "lsq_export.integer": frozenset(CALIB),  # the reference shares no code with what it checks
}
# `python -m models.paper_tables`: run from a checkout, models/ has that name, and only relative imports fit both names.
RUN_FROM_A_CHECKOUT = (
    "lsq_export.models.paper_tables",
    "lsq_export.models.first_grids",
    "lsq_export.models.recipe_table",
)
# Commands that lie outside cli/.
COMMANDS = ("lsq_export.__main__", *RUN_FROM_A_CHECKOUT)

# Installed packages that a room must not import, and the top-level name of models/, which installs as
# lsq_export.models.
ONNX = frozenset({"onnx", "onnxruntime", "onnxscript", "onnx_ir"})
TERMINAL = frozenset({"click", "rich"})
FOREIGN: dict[str, frozenset[str]] = {
    **dict.fromkeys(CALIB, ONNX | TERMINAL | {"models"}),
    **dict.fromkeys(ORDER, frozenset({"click", "models"})),
    "lsq_export.models": ONNX | TERMINAL | {"models"},
    "lsq_export.models.paper": ONNX | TERMINAL | {"models"},
    "lsq_export.cli": frozenset({"models"}),
}
PRINTING = frozenset({"lsq_export.cli", "lsq_export.report"})
# A command as well, of those who receive a bundle: it is copied there.
RECEIVED = "lsq_export.bundle.run"

FILE_LINES, MEDIAN_LINES, FUNCTION_LINES, PARAMETERS = 250, 120, 60, 8
# Their parameters are a user's choices; so are those of click's commands, where an option is a parameter.
ENTRY_POINTS = frozenset({"lsq_export.pipeline.export", "lsq_export.adopting.adopt", "lsq_export.training.fit.fit"})

MODULES = read_modules()
NAMES = frozenset(module.name for module in MODULES)
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def room_of(name: str) -> str | None:
    """The room of a module or of a name in it; None for installed packages."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    if any(prefix in COMMANDS for prefix in prefixes):
        return "lsq_export.cli"
    room = next((prefix for prefix in prefixes if prefix in ALLOWED), None)
    return "calib.base" if room == "calib" and name != "calib" else room


def may_import(room: str, name: str) -> bool:
    target = room_of(name)
    if target is None:
        return name.split(".")[0] not in FOREIGN[room]
    return target == room or target in ALLOWED[room]


def forbidden(module: Module) -> list[str]:
    """Imports that this file must not have."""
    room = room_of(module.name)
    assert room is not None
    return [name for name in imports(module, NAMES) if not may_import(room, name)]


def arrows(modules: Iterable[Module]) -> dict[str, set[str]]:
    """{room: the other rooms that it imports}."""
    graph: dict[str, set[str]] = {}
    for module in modules:
        room = str(room_of(module.name))
        targets = {target for name in imports(module, NAMES) if (target := room_of(name)) is not None}
        graph.setdefault(room, set()).update(targets - {room})
    return graph


@each_module
def test_imports_follow_the_order_of_the_rooms(module: Module) -> None:
    assert forbidden(module) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("calib/x.py", "import onnx"),
        ("calib/x.py", "from lsq_export.qat.prepare_model import prepare"),
        ("calib/x.py", "def f():\n    import onnxruntime as ort"),
        ("calib/grid.py", "from calib.statistics.observers import Observer"),
        ("calib/grid.py", "import calib"),
        ("calib/folding/x.py", "from calib.rounding.ties import clear_scale"),
        ("calib/folding/x.py", "from calib.initialization.first_grids import initialize"),
        ("calib/initialization/x.py", "from calib.folding.edge_grid import edge_grid"),
        ("calib/statistics/x.py", "from calib import drift"),
        ("lsq_export/graph/x.py", "import click"),
        ("lsq_export/pipeline.py", "from .cli import main"),
        ("lsq_export/graph/x.py", "if TYPE_CHECKING:\n    from lsq_export import Bundle"),
        ("lsq_export/rewrite/x.py", "from ..cli.output import console"),
        ("lsq_export/rewrite/folding/x.py", "from lsq_export.rewrite.fold import fold"),
        ("lsq_export/rewrite/normalizing/x.py", "from lsq_export.rewrite.folding.weights import fold_weights"),
        ("lsq_export/integer/x.py", "from lsq_export.graph.build import constant"),
        ("lsq_export/data/x.py", "from models import build"),
        ("models/x.py", "from calib.initialization.first_grids import initialize"),
        ("models/x.py", "import calib"),
        ("models/x.py", "from lsq_export import prepare"),
        ("models/x.py", "from ..qat.prepare_model import prepare"),
        ("models/x.py", "from .paper.plan import plan"),
        ("models/paper/x.py", "import click"),
        ("models/paper/x.py", "from lsq_export.cli.output import console"),
        ("lsq_export/bench/x.py", "from lsq_export.models.paper.plan import plan"),
        ("lsq_export/bench/x.py", "from lsq_export.models.paper_tables import command"),
        ("lsq_export/cli/x.py", "from models.paper_tables import command"),
    ],
)
def test_a_wrong_arrow_is_found(file: str, source: str) -> None:
    assert len(forbidden(module_of(file, source))) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("calib/x.py", "import torch\nfrom .errors import QuantizationError"),
        ("calib/rounding/x.py", "from calib.folding.containers import strided_grid\nfrom calib.grid import Grid"),
        ("lsq_export/bench/x.py", "import onnx\nfrom calib.grid import Grid\nfrom lsq_export.models import build"),
        ("lsq_export/integer/x.py", "import onnx\nfrom calib.grid import Grid\nfrom .node import Node"),
        ("lsq_export/cli/x.py", "import click\nfrom lsq_export import prepare, models"),
        ("models/paper/x.py", "import calib\nfrom lsq_export.training.job import Job\nfrom .plan import plan"),
        ("models/paper_tables.py", "import click\nfrom lsq_export.cli.output import console\nfrom .paper import plan"),
        ("models/x.py", "from calib.errors import QuantizationError\nfrom .tiny import Tiny\nfrom torch import nn"),
    ],
)
def test_a_right_arrow_is_none(file: str, source: str) -> None:
    assert forbidden(module_of(file, source)) == []


def packages_without_room(modules: Iterable[Module]) -> list[str]:
    """Packages that only count as part of the room around them."""
    programs = ("lsq_export.bench.child", "lsq_export.replaying.adapters")  # they import nothing of this project
    return [module.name for module in modules if module.is_package and module.name not in (*ALLOWED, *programs)]


def test_every_package_is_a_room_and_every_room_has_files() -> None:
    assert packages_without_room(MODULES) == []
    assert {room_of(module.name) for module in MODULES} == set(ALLOWED)


def test_a_package_without_a_room_is_found() -> None:
    assert packages_without_room([module_of("lsq_export/graph/deep/__init__.py", "")]) == ["lsq_export.graph.deep"]


def test_no_rooms_and_no_modules_import_each_other() -> None:
    assert cycle(arrows(MODULES)) == []
    assert cycle({module.name: sorted(NAMES.intersection(imports(module, NAMES))) for module in MODULES}) == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert cycle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    inside_a_function = module_of("lsq_export/bundle/x.py", "def f():\n    from lsq_export.report import render")
    back = module_of("lsq_export/report/x.py", "from lsq_export.bundle.directory import Bundle")
    assert cycle(arrows([inside_a_function, back])) == ["lsq_export.bundle", "lsq_export.report", "lsq_export.bundle"]


def shadowing(modules: list[Module]) -> list[str]:
    """Modules named like a function that a package offers in `__all__`: importing one would put it in its place.

    What calib and lsq_export offer counts for all modules in them, at any depth; what another package offers counts for
    the modules directly in it.
    """
    clashes = []
    for package in (module for module in modules if module.is_package):
        offered = offered_functions(package, modules)
        for module in modules:
            parent, _, name = module.name.rpartition(".")
            inside = parent == package.name or parent.split(".")[0] == package.name
            if inside and name in offered:
                clashes.append(module.name)
    return clashes


def test_no_module_has_the_name_of_a_public_function() -> None:
    offered = {name for module in MODULES if module.is_package for name in offered_functions(module, MODULES)}
    assert offered >= {"export", "verify", "prepare", "quantizers", "open_bundle", "initialize", "inputs", "load"}
    assert offered >= {"pretrain", "finetune", "compare", "measure"}
    assert shadowing(MODULES) == []


def test_a_module_that_shadows_a_function_is_found() -> None:
    top = module_of("lsq_export/__init__.py", "__all__ = ['Bundle', 'export']")
    data = module_of("lsq_export/data/__init__.py", "__all__ = ['load']")
    home = module_of("lsq_export/pipeline.py", "def export(): ...\ndef load(): ...\nclass Bundle: ...")
    clashing = [module_of(file, "") for file in ("lsq_export/bundle/export.py", "lsq_export/data/load.py")]
    harmless = [module_of(file, "") for file in ("lsq_export/graph/load.py", "lsq_export/Bundle.py")]
    found = shadowing([top, data, home, *clashing, *harmless])
    assert found == [module.name for module in clashing]


def large_files(modules: Iterable[Module]) -> list[str]:
    return [f"{module.name}: {module.lines} lines" for module in modules if module.lines > FILE_LINES]


def long_functions(modules: Iterable[Module]) -> list[str]:
    lengths = {name: (f.end_lineno or 0) - f.lineno + 1 for module in modules for name, f in functions(module)}
    return [f"{name}: {length} lines" for name, length in lengths.items() if length > FUNCTION_LINES]


def wide_functions(modules: Iterable[Module]) -> list[str]:
    return [
        f"{name}: {parameters(function)} parameters"
        for module in modules
        for name, function in functions(module)
        if parameters(function) > PARAMETERS and name not in ENTRY_POINTS and not is_command(function)
    ]


def test_files_are_small() -> None:
    assert statistics.median(module.lines for module in MODULES) <= MEDIAN_LINES
    assert large_files(MODULES) == []


def test_functions_are_short() -> None:
    assert long_functions(MODULES) == []


def test_functions_have_few_parameters() -> None:
    assert wide_functions(MODULES) == []
    assert {name for module in MODULES for name, _ in functions(module)} >= ENTRY_POINTS


def test_a_large_file_and_a_long_function_are_found() -> None:
    body = "    x = 1\n"
    fits = module_of("calib/x.py", "def f():\n" + body * 59)
    breaks = module_of("calib/x.py", "class A:\n    def f(self):\n" + f"    {body}" * 60)
    assert long_functions([fits]) == [] and long_functions([breaks]) == ["calib.x.A.f: 61 lines"]
    assert large_files([module_of("calib/x.py", "\n" * 250)]) == []
    assert large_files([module_of("calib/x.py", "\n" * 251)]) == ["calib.x: 251 lines"]


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("calib/x.py", "def f(a, b, c, d, e, f, g, h): ...", []),
        ("calib/x.py", "def f(a, b, c, d, e, f, g, h, i): ...", ["calib.x.f: 9 parameters"]),
        ("calib/x.py", "def f(a, /, b, c, d, *, e, f, g, h, i): ...", ["calib.x.f: 9 parameters"]),
        ("calib/x.py", "class A:\n    def f(self, a, b, c, d, e, f, g, h): ...", []),
        ("calib/x.py", "def g():\n    async def f(a, b, c, d, e, f, g, h, i): ...", ["calib.x.g.f: 9 parameters"]),
        ("lsq_export/cli/cmd_x.py", "@click.command('x')\ndef f(a, b, c, d, e, f, g, h, i): ...", []),
        ("lsq_export/pipeline.py", "def export(a, b, c, d, e, f, g, h, i): ...", []),
    ],
)
def test_a_function_with_many_parameters_is_found(file: str, source: str, found: list[str]) -> None:
    assert wide_functions([module_of(file, source)]) == found


@each_module
def test_only_the_command_line_and_the_report_print(module: Module) -> None:
    assert room_of(module.name) in PRINTING or module.name == RECEIVED or prints(module) == []


def test_a_print_is_found() -> None:
    assert prints(module_of("calib/x.py", "def f():\n    print(1)\nconsole.print(2)")) == [2]


@each_module
def test_relative_imports_are_of_siblings(module: Module) -> None:
    if module.name not in RUN_FROM_A_CHECKOUT:
        assert distant_imports(module) == []


@pytest.mark.parametrize(
    ("statement", "distant"),
    [
        ("from .x import y", False),
        ("from . import x", False),
        ("from lsq_export.graph.x import y", False),
        ("import torch.nn", False),
        ("from ..x import y", True),
        ("from .. import x", True),
        ("from .x.y import z", True),
    ],
)
def test_a_distant_relative_import_is_found(statement: str, distant: bool) -> None:
    source = f"def f():\n    {statement}"
    assert distant_imports(module_of("lsq_export/graph/a.py", source)) == ([statement] if distant else [])
