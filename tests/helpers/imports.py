"""The import graph of the four folders: who imports whom, between modules and between rooms.

``python tests/helpers/imports.py`` prints it as a table; another checkout of the repository may be given.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

FOLDERS = ("augment", "classifiers", "datasets", "experiments")

Graph = Mapping[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Dotted names below ``tinycohort`` and files of all modules; a package is its ``__init__``."""
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


@cache
def module_graph(root: Path, *, eager: bool = False) -> dict[str, set[str]]:
    """The modules of ours that each imports; with ``eager``, only those that it imports when it is imported itself."""
    known = modules(root)
    return {module: set(_targets(module, path, known, eager)) for module, path in known.items()}


def room_of(module: str) -> str:
    """The package that a module stands in; what stands at the top of a folder is in the folder itself."""
    return module.rpartition(".")[0] or module


def room_graph(graph: Graph, packages: set[str]) -> dict[str, set[str]]:
    """Arrows between rooms."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, targets in graph.items():
        room = module if module in packages else room_of(module)
        arrows[room] |= {target if target in packages else room_of(target) for target in targets} - {room}
    return dict(arrows)


def depth(graph: Graph) -> int:
    """The longest chain of imports, in modules. Raise a ``CycleError`` if there is a circle."""
    longest: dict[str, int] = {}
    for module in TopologicalSorter(graph).static_order():
        longest[module] = 1 + max((longest[target] for target in graph.get(module, ())), default=0)
    return max(longest.values())


def _targets(module: str, path: Path, known: Mapping[str, Path], eager: bool) -> Iterator[str]:
    package = module if path.name == "__init__.py" else room_of(module)
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), eager):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = resolve_name("." * node.level + (node.module or ""), f"tinycohort.{package}").removeprefix("tinycohort.")
            yield from (target for name in node.names if (target := _target(base, name.name, known)) and target != module)


def _target(base: str, name: str, known: Mapping[str, Path]) -> str | None:
    return next((target for target in (f"{base}.{name}", base) if target in known), None)


def _nodes(node: ast.AST, eager: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if eager and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _nodes(child, eager)


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]
    known, graph = modules(root), module_graph(root)
    packages = {module for module, path in known.items() if path.name == "__init__.py"}
    rooms = room_graph(graph, packages)
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in known.items()}
    print("| room | files | lines | imports from |\n|---|---|---|---|")
    for room in sorted(rooms):
        members = [module for module in known if module == room or (room_of(module) == room and module not in packages)]
        print(f"| {room} | {len(members)} | {sum(lines[member] for member in members)} | {', '.join(sorted(rooms[room])) or '-'} |")
    arrows = sum(map(len, graph.values()))
    try:
        told = f"the longest chain has {depth(module_graph(root, eager=True))} modules, and there is no circle"
    except CycleError as error:
        told = f"a circle: {' -> '.join(error.args[1])}"
    print(f"\n{len(known)} modules, {arrows} arrows between them; {told}.")


if __name__ == "__main__":
    main()
