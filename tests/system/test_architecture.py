"""What the repository promises about itself: who may import whom, what is packaged, what is never loaded."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path

import pytest
from folders import ROOT
from imports import depth, module_graph
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDERS = ("augment", "classifiers", "datasets", "experiments")
ARROWS = {
    "experiments": {"classifiers", "augment", "datasets"},
    "classifiers": {"datasets"},
    "augment": {"datasets"},
    "datasets": set(),
}
STUDIES = {  # the packages of experiments/, of each other
    "engine": set(),
    "fidelity": {"engine"},
    "audit": {"engine", "fidelity"},
    "augmentation_study": {"engine"},
    "fidelity_study": {"engine", "fidelity"},
}
ROOMS = {  # the packages of augment/ and datasets/, and the modules at their top, of each other
    "augment.console": set(),
    "augment.settings": set(),
    "augment.draws": set(),
    "augment.posterior": {"augment.draws"},
    "augment.hmc": {"augment.draws"},
    "augment.networks": set(),
    "augment.autoencoders": {"augment.networks", "augment.posterior", "augment.hmc", "augment.draws", "augment.settings"},
    "augment.geometry": {"augment.posterior"},
    "augment.samplers": {
        *("augment.autoencoders", "augment.geometry", "augment.posterior", "augment.hmc", "augment.draws", "augment.settings"),
    },
    "augment.fitting": {"augment.samplers", "augment.geometry", "augment.autoencoders", "augment.networks", "augment.posterior"},
    "augment.detail": {"augment.fitting", "augment.settings"},
    "augment.release": {"augment.detail", "augment.fitting", "augment.samplers", "augment.autoencoders", "augment.posterior"},
    "augment.commands": {
        *("augment.release", "augment.detail", "augment.fitting", "augment.samplers", "augment.geometry", "augment.autoencoders"),
        *("augment.settings", "augment.console"),
    },
    "datasets.common": set(),
    "datasets.formats": {"datasets.common", "datasets.spaces"},
    "datasets.layouts": {
        *("datasets.common", "datasets.cohort", "datasets.formats", "datasets.images", "datasets.spaces", "datasets.identity"),
    },
}
MOST_PARAMETERS = 10  # more are a dataclass that nobody has named
TOO_MANY = {  # named as they are mended, and none is added
    ("augment/autoencoders/rhvae.py", "__init__"),
    ("augment/commands/interpolate.py", "interpolate_class"),
}
COMPOSITION_ROOT = "augment/cli/"  # may import everything, but only inside functions: `augment --help` must be quick
HEAVY = ("torch", "monai", "sklearn", "scipy", "nibabel", "pandas", "matplotlib", "nilearn")
PICKLERS = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
HIDDEN_PICKLES = {"torch.load", "torch.save", "joblib.load", "joblib.dump", "pandas.read_pickle"}
(TORCH,) = re.findall(r"^TORCH := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)  # which has no hash
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

MODULES = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
each_module = pytest.mark.parametrize("module", MODULES)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), filename=module)


def imports(root: ast.AST, module: str) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute dotted names that ``module`` imports anywhere below ``root``, our own as ``tinycohort.*``."""
    package = ".".join(["tinycohort", *Path(module).parent.parts])
    for node in ast.walk(root):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield base, node
            # `from .. import datasets` names what it imports only here.
            yield from ((f"{base}.{alias.name}", node) for alias in node.names)


@cache
def distributions() -> dict[str, list[str]]:
    """The distributions that hold each top-level package; it takes seconds to look."""
    return dict(packages_distributions())


def our_folders(root: ast.AST, module: str) -> set[str]:
    ours = (name.split(".") for name, _ in imports(root, module) if name.startswith("tinycohort."))
    return {parts[1] for parts in ours}


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The statements below ``node`` that run when the module is imported: all but those inside functions and ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from run_at_import(child)


def test_there_is_something_to_look_at():
    assert {module.split("/")[0] for module in MODULES} == set(FOLDERS)


@each_module
def test_dependence_has_one_direction(module):
    folder = module.split("/")[0]
    allowed = ARROWS[folder] | {folder}
    if module.startswith(COMPOSITION_ROOT):
        eager = set().union(*(our_folders(statement, module) for statement in run_at_import(tree(module))))
        assert eager <= allowed, f"{module} may import {sorted(eager - allowed)} inside functions only"
        return
    beyond = our_folders(tree(module), module) - allowed
    assert not beyond, f"{module} imports from {sorted(beyond)}; {folder} may import from {sorted(allowed)} only"


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("experiments/") and module.count("/") > 1])
def test_studies_depend_in_one_direction(module):
    package = module.split("/")[1]
    parts = (name.split(".") for name, _ in imports(tree(module), module) if name.startswith("tinycohort.experiments."))
    beyond = {part[2] for part in parts} - STUDIES[package] - {package}
    assert not beyond, (
        f"{module} imports from {sorted(beyond)}; {package} may import from {sorted(STUDIES[package]) or 'none of them'} only"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_depend_in_one_direction(room):
    graph = module_graph(ROOT)
    members = [module for module in graph if f"{module}.".startswith(f"{room}.")]
    assert members, f"there is no {room}"
    allowed = (room, *ROOMS[room], *([] if room.startswith("datasets") else ["datasets"]))
    for module in members:
        beyond = {target for target in graph[module] if not any(f"{target}.".startswith(f"{one}.") for one in allowed)}
        assert not beyond, f"{module} imports {sorted(beyond)}; {room} may import from {', '.join(allowed[1:]) or 'nothing of ours'} only"


def test_no_import_runs_in_a_circle():
    assert depth(module_graph(ROOT, eager=True)) < 32, "the longest chain of imports"


# Its files, its columns and the findings in its description; readers of any cohort have their own names for what BIDS names.
OF_A_SYNTHETIC_COHORT = {
    *("dataset_description.json", "participants.tsv", "participants.json", "images.npz"),
    *("nearest_training_distance", "nearest_training_participant", "Gates", "Compared", "ComparedInPieces", "Refused", "RefusedBecause"),
}


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith(("augment/", "experiments/", "classifiers/"))])
def test_a_synthetic_cohort_s_files_are_named_by_their_owner_alone(module):
    if module.startswith("augment/release/"):
        return
    literals = {node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {name for name in OF_A_SYNTHETIC_COHORT if any(literal == name or literal.endswith(f"/{name}") for literal in literals)}
    assert not named, f"{module} names {sorted(named)}; ask augment/release/synthetic_cohort.py"


@each_module
def test_our_own_modules_are_imported_relatively(module):
    for node in ast.walk(tree(module)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        absolute = [name for name in names if name.split(".")[0] == "tinycohort"]
        assert not absolute, f"{module}:{node.lineno} imports {absolute[0]}: write it relatively, so that it resolves on disk too"
        # Installed, `import augment` would fail; from the root of the repository it would seem to work.
        ours = [name for name in names if name.split(".")[0] in set(FOLDERS) - {"datasets"}]
        assert not ours, f"{module}:{node.lineno} imports {ours[0]} as if it were top-level"


@each_module
def test_everything_imported_is_ours_or_declared(module):
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in requirements}
    owners = distributions()
    for name, node in imports(tree(module), module):
        top = name.split(".")[0]
        if top == "tinycohort" or top in sys.stdlib_module_names:
            continue
        candidates = {canonicalize_name(owner) for owner in owners.get(top, [top])}
        assert candidates & declared, f"{module}:{node.lineno} imports {top}, which pyproject.toml does not ask for"


def test_no_function_has_many_parameters():
    found = {
        (module, getattr(node, "name", "lambda"))
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and len(parameters(node.args)) > MOST_PARAMETERS
    }
    assert not found - TOO_MANY, f"more than {MOST_PARAMETERS} parameters; make one dataclass of those that belong together"
    assert not TOO_MANY - found, "mended: take it out of TOO_MANY"


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    """All of a function, but the object or the class that it is of."""
    alone = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *alone]
    return [argument for argument in given if argument.arg not in ("self", "cls")]


def test_packages_on_disk_are_those_declared():
    setuptools = PROJECT["tool"]["setuptools"]
    on_disk = {
        ".".join(["tinycohort", *path.parent.relative_to(ROOT).parts]) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
    }
    assert set(setuptools["packages"]) == {"tinycohort", *on_disk}
    for package in on_disk:
        assert (ROOT / Path(*package.split(".")[1:]) / "__init__.py").is_file(), f"{package} has no __init__.py"
    assert setuptools["package-dir"] == {"tinycohort": "tinycohort"} | {f"tinycohort.{folder}": folder for folder in FOLDERS}


def test_files_that_are_no_modules_are_packaged_too():
    setuptools = PROJECT["tool"]["setuptools"]
    data = setuptools.get("package-data", {})
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_dir() or path.suffix in {".py", ".pyc"} or "__pycache__" in path.parts or path.name.startswith("."):
                continue
            # The package that holds a file is its nearest folder with an __init__.py.
            home = next(parent for parent in path.parents if (parent / "__init__.py").is_file())
            package = ".".join(["tinycohort", *home.relative_to(ROOT).parts])
            inside = path.relative_to(home)
            patterns = [*data.get(package, []), *data.get("*", [])]
            assert any(inside.match(pattern) for pattern in patterns), f"no wheel would hold {path.relative_to(ROOT)}: see package-data"


def test_the_command_line_loads_nothing_heavy():
    code = "import json, sys, tinycohort.augment.cli; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    loaded = set(json.loads(answer.stdout)) & set(HEAVY)
    assert not loaded, f"importing the command line loads {sorted(loaded)}; import them inside the commands"


@each_module
def test_nothing_is_pickled_or_unpickled(module):
    for name, node in imports(tree(module), module):
        assert name.split(".")[0] not in PICKLERS, f"{module}:{node.lineno} imports {name}: a pickle can run anything when it is read"
        assert name not in HIDDEN_PICKLES, f"{module}:{node.lineno} imports {name} by its name, where its arguments cannot be checked"
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.Call):
            continue
        where = f"{module}:{node.lineno}"
        function = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if function == "torch.load":
            weights_only = given.get("weights_only")
            assert isinstance(weights_only, ast.Constant), f"{where}: torch.load without weights_only=True"
            assert weights_only.value is True, f"{where}: torch.load without weights_only=True"
        if function in {"np.load", "numpy.load", "np.save", "np.savez", "np.savez_compressed"} and "allow_pickle" in given:
            allow = given["allow_pickle"]
            assert isinstance(allow, ast.Constant), f"{where}: {function} with allow_pickle"
            assert allow.value is False, f"{where}: {function} with allow_pickle"
        refused = HIDDEN_PICKLES - {"torch.load"} | {"pd.read_pickle"}
        assert function not in refused, f"{where}: {function} is a pickle; weights go into safetensors, the rest into JSON or CSV"
        assert not function.endswith(".to_pickle"), f"{where}: {function} is a pickle"


def test_the_version_is_said_alike_everywhere():
    version = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, flags=re.MULTILINE) == [version]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {version, "Unreleased"} & set(headings)


def test_containers_have_the_torch_that_ci_has():
    for file in ("Dockerfile", "tinycohort.def"):
        text = (ROOT / "containers" / file).read_text(encoding="utf-8")
        assert set(re.findall(r"torch==(\d[\d.]*)|TORCH=(\d[\d.]*)", text)) <= {(TORCH, ""), ("", TORCH)}
        assert TORCH in text
        assert "--require-hashes --no-deps -r" in text


def test_every_constraint_is_an_exact_pin_with_its_hashes_that_its_requirements_allow():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    files = {
        "constraints.txt": ("test", "dev", "docs"),
        "constraints-sklearn-extra.txt": ("test", "sklearn-extra"),
        "constraints-runtime.txt": (),
    }
    for file, names in files.items():
        pins = re.findall(
            r"^([\w.-]+)==(\S+)(.*)\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)*)",
            (ROOT / file).read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
        assert all(hashes for *_, hashes in pins)
        pinned = {canonicalize_name(name): version for name, version, *_ in pins} | {"torch": TORCH}
        for line in [*project["dependencies"], *(line for name in names for line in extras[name])]:
            requirement = Requirement(line)
            if requirement.marker and not any(requirement.marker.evaluate({"python_version": python}) for python in ("3.11", "3.12")):
                continue
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{file} does not pin {requirement.name}: run `make constraints`"
            assert version in requirement.specifier, f"{file} pins {requirement.name} to {version}, outside of {requirement.specifier}"


def test_a_cohort_is_read_and_an_output_taken_without_torch():
    """Which takes a second to be imported, and monai three: whoever only reads does not wait for them."""
    heavy = ("torch", "monai", "sklearn", "matplotlib", "nilearn")
    code = f"import sys, tinycohort.datasets.readers, tinycohort.datasets.output; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
