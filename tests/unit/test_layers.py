"""No module of the engine imports from a higher layer or in a circle (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
import statistics
from collections import Counter
from pathlib import Path

from runbook import collection

PACKAGE = collection.root() / "engine" / "runbook"
ARCHITECTURE = (collection.root() / "docs" / "architecture.md").read_text()


def layers() -> dict[str, int]:
    """The layer of each entry of the package, the lowest 0: lines ``N. `a`, `b` `` of the document."""
    section = ARCHITECTURE.partition("## Layers of the engine")[2].partition("\n## ")[0]
    lines = re.findall(r"^\d+\. (.*)$", section, re.MULTILINE)
    return {
        name: number for number, line in enumerate(lines) for name in re.findall("`(.*?)`", line)
    }


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path
    for path in PACKAGE.rglob("*.py")
    if "learner/run_it" not in str(path) and "sandbox/labeller" not in str(path)
}


def imports(module: str) -> set[str]:
    """The engine's modules that a module imports anywhere, for types and in functions too."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) + 1 - node.level], base]
                )
            base = base.rstrip(".")
            inner = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner or {base}
    return found & (MODULES.keys() - {"runbook", module})


def test_no_module_imports_from_a_higher_layer() -> None:
    order = layers()
    # A folder that was moved may have left its bytecode.
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    entries = {Path(path.parts[0]).stem for path in files} - {"__init__"}
    assert entries == order.keys()

    def layer(module: str) -> int:
        return order[module.split(".")[1]]

    upward = [
        f"{module} imports {other}"
        for module in MODULES.keys() - {"runbook"}
        for other in imports(module)
        if layer(other) > layer(module)
    ]
    assert upward == []


def test_no_import_circle() -> None:
    left = {module: imports(module) for module in MODULES}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_only_the_ansible_process_imports_the_collection() -> None:
    importing = {
        module
        for module, path in MODULES.items()
        if re.search(r"^\s*(from|import) ansible_collections", path.read_text(), re.MULTILINE)
    }
    assert {
        module for module in importing if not module.startswith("runbook.execute.child.")
    } == set()
    assert importing


def test_functions_are_short() -> None:
    """None above 60 lines, half of them at most 8 (CONTRIBUTING.md)."""
    lengths = {
        f"{path}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for folder in ("engine", "plugins")
        for path in (collection.root() / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert [name for name, lines in lengths.items() if lines > 60] == []
    assert statistics.median(lengths.values()) <= 8


def test_names_of_test_files_are_unique() -> None:
    """Pytest imports them by their base name, as the tests import their helpers."""
    files = (collection.root() / "tests").rglob("*.py")
    names = Counter(path.name for path in files if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
