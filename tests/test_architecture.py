"""The layers of the code, read from its source: which file imports which, and what no file may do."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ldp_client", "server")

# From the ground up. A file imports from lower layers and from its own folder; those that share a layer do not know
# each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("ldp_client.errors",),
    ("ldp_client.privacy", "ldp_client.damage", "ldp_client.new_file", "ldp_client.presence", "ldp_client.processes"),
    ("ldp_client.wire",),
    (
        "ldp_client.flow",
        "ldp_client.imaging",
        "ldp_client.ledger",
        "ldp_client.config",
        "ldp_client.spool",
        "ldp_client.verify",
        "ldp_client.audit",
    ),
    ("ldp_client.diagnosis", "ldp_client.evaluation_set"),
    ("ldp_client.site", "ldp_client.submission", "ldp_client.plan", "ldp_client.release", "ldp_client.permissions"),
    (
        "ldp_client.desk",
        "ldp_client.officer",
        "ldp_client.rotation",
        "ldp_client.export",
        "ldp_client.preview",
        "ldp_client.courier",
        "ldp_client.openings",
        "ldp_client.diagnose",
        "ldp_client.evaluation",
    ),
    ("ldp_client.agent", "ldp_client.supernode"),
    ("ldp_client.cli",),
)
SERVER_LAYERS: tuple[tuple[str, ...], ...] = (
    ("server.pulling",),
    ("server.store", "server.certificates", "server.datasets", "server.edge", "server.gather"),
    ("server.learning", "server.intake", "server.config", "server.superlink"),
    ("server.centre", "server.benchmarks"),
    ("server.service", "server.flower_app", "server.reconcile"),
    ("server.cli",),
)
SHARED = {
    f"ldp_client.{name}"
    for name in (
        "errors",
        "damage",
        "new_file",
        "privacy",
        "wire",
        "imaging",
        "flow",
        "diagnosis",
        "config",
        "processes",
        "verify",
    )
}
# The command line loads each noun, and what needs torch, when it is asked for.
DEFERRED = {("ldp_client/cli/campaign.py", "ldp_client.preview")}
WITHOUT_TORCH = (
    "privacy",
    "wire",
    "ledger",
    "verify",
    "audit",
    "openings",
    "export",
    "plan",
    "officer",
    "rotation",
    "site",
    "submission",
    "desk",
    "config",
    "spool",
    "evaluation_set",
    "cli.audit",
    "cli.dataset",
    "cli.ledger",
    "cli.campaign",
    "cli.budget",
)
HEAVY = {"torch", "flwr", "safetensors"}
RANDOM = {"random", "numpy.random", "torch.random"}


@dataclass(frozen=True)
class Source:
    """One file of the product."""

    module: str
    path: Path
    package: bool

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _sources() -> dict[str, Source]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            found[module] = Source(module, path, is_package)
    return found


SOURCES = _sources()


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that a file names in an import; `from package import module` names the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports inside the project are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in SOURCES else str(node.module)), node


def ours(source: Source) -> set[str]:
    """The files of the project that a file imports."""
    return {name for name, _ in imports(source.tree) if name in SOURCES}


def folder(module: str) -> str:
    """The part that layers speak of: two names deep."""
    return ".".join(module.split(".")[:2])


def rank(module: str) -> int:
    """How high a file stands."""
    for layers in (LAYERS, SERVER_LAYERS):
        for height, names in enumerate(layers):
            if folder(module) in names:
                return height + (len(LAYERS) if layers is SERVER_LAYERS else 0)
    raise AssertionError(f"{module} has no layer: name it in LAYERS, at the place where DESIGN has it")


def each(*folders: str) -> list[Source]:
    """The files of some folders, or all."""
    return [
        source
        for source in SOURCES.values()
        if not folders or any(source.module == name or source.module.startswith(f"{name}.") for name in folders)
    ]


def by_name(source: Source) -> str:
    return source.name


@pytest.mark.parametrize("source", each(), ids=by_name)
def test_imports_point_down(source: Source) -> None:
    if source.module in PACKAGES:
        assert ours(source) == set()
        return
    for name in ours(source):
        if folder(name) == folder(source.module) or name in PACKAGES:
            continue
        assert rank(name) < rank(source.module), f"{source.name} imports {name}, which is not below it"


def test_there_is_no_circle() -> None:
    graph = {module: ours(source) for module, source in SOURCES.items()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module in done:
            return
        for name in graph[module]:
            if name != module:
                visit(name, (*above, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("source", each("server"), ids=by_name)
def test_server_uses_of_the_client_what_both_sides_share(source: Source) -> None:
    used = {folder(name) for name in ours(source) if name.startswith("ldp_client")}
    if source.module.startswith("server.cli"):
        # How a refusal becomes an exit code, and how nouns are loaded: the same words on both sides. And an export is
        # verified by the very program that everybody else verifies it with.
        used -= {"ldp_client.cli", "ldp_client.verify"}
        shared = {name for name in ours(source) if name.startswith("ldp_client.cli")}
        assert shared <= {f"ldp_client.cli.{name}" for name in ("console", "filters", "lazy", "table_file")}
    assert used <= SHARED


@pytest.mark.parametrize("source", each("ldp_client"), ids=by_name)
def test_client_never_imports_the_server(source: Source) -> None:
    assert not [name for name, _ in imports(source.tree) if name.split(".")[0] == "server"]


@pytest.mark.parametrize("source", each(), ids=by_name)
def test_imports_stand_at_the_top(source: Source) -> None:
    top = {id(node) for node in source.tree.body}
    typing_only = {
        id(inner)
        for node in source.tree.body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for name, node in imports(source.tree):
        if id(node) not in top | typing_only:
            assert (source.name, name) in DEFERRED, f"{source.name}, line {node.lineno}: {name} is imported late"


def reached(module: str) -> dict[str, str]:
    """Everything that importing a file imports, with the file of ours that named it."""
    found: dict[str, str] = {}
    todo, seen = [module], set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        parents = current.split(".")
        todo += [".".join(parents[:depth]) for depth in range(1, len(parents))]
        for name, node in imports(SOURCES[current].tree):
            if (SOURCES[current].name, name) in DEFERRED and node not in SOURCES[current].tree.body:
                continue
            if name in SOURCES:
                todo.append(name)
            else:
                found.setdefault(name, current)
    return found


@pytest.mark.parametrize("source", each(*(f"ldp_client.{name}" for name in WITHOUT_TORCH)), ids=by_name)
def test_an_auditors_laptop_needs_neither_torch_nor_flower(source: Source) -> None:
    for name, importer in reached(source.module).items():
        assert name.split(".")[0] not in HEAVY, f"{source.name} reaches {name} through {importer}"


@pytest.mark.parametrize(
    "source", each("ldp_client.privacy", "ldp_client.wire", "ldp_client.verify", "ldp_client.audit"), ids=by_name
)
def test_what_an_auditor_runs_needs_the_base_install_alone(source: Source) -> None:
    base = {"numpy", "pydantic", "pydantic_core", "cryptography"}  # pydantic cannot be installed without its core
    for name, importer in reached(source.module).items():
        top = name.split(".")[0]
        assert top in base or top in sys.stdlib_module_names, f"{source.name} reaches {name} through {importer}"


@pytest.mark.parametrize(
    "source",
    each("ldp_client.privacy", "ldp_client.wire", "ldp_client.ledger", "ldp_client.release", "ldp_client.site"),
    ids=by_name,
)
def test_no_generator_with_a_seed_near_a_release(source: Source) -> None:
    assert not {name for name, _ in imports(source.tree)} & RANDOM
    for node in ast.walk(source.tree):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        assert text not in ("np.random", "numpy.random", "torch.random"), f"{source.name}: {text}"
        assert not text.startswith(("torch.rand", "torch.manual_seed")), f"{source.name}: {text}"


@pytest.mark.parametrize("source", each(), ids=by_name)
def test_checks_are_no_asserts(source: Source) -> None:
    asserts = [node.lineno for node in ast.walk(source.tree) if isinstance(node, ast.Assert)]
    assert asserts == [], f"{source.name}: python -O removes asserts; raise instead"


@pytest.mark.parametrize("source", each(), ids=by_name)
def test_files_are_named_after_an_idea(source: Source) -> None:
    assert source.path.stem not in ("utils", "util", "helpers", "helper", "common", "misc", "base")


@pytest.mark.parametrize("source", [source for source in each() if source.package], ids=by_name)
def test_a_package_is_a_docstring(source: Source) -> None:
    body = [node for node in source.tree.body if not _is_version(node)]
    assert len(body) == 1
    assert ast.get_docstring(source.tree), f"{source.name} says nothing"


def _is_version(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"


def test_actnorm_is_initialised_by_pretraining_alone() -> None:
    """`forward` never changes state; what calls `initialize` calls it on purpose, with public images."""
    callers = set()
    for source in each():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "initialize":
                callers.add(source.module)
    # glow.py hands the call of the whole flow down to its layers.
    assert callers == {"ldp_client.flow.glow", "server.learning.likelihood"}


def test_actnorm_is_initialised_within_initialize_alone() -> None:
    tree = SOURCES["ldp_client.flow.glow"].tree
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        calls = [
            node.func.attr
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        assert "initialize" not in calls or function.name == "initialize"


def test_every_layer_named_here_exists() -> None:
    named = {name for layers in (LAYERS, SERVER_LAYERS) for names in layers for name in names}
    folders = {folder(module) for module in SOURCES} | {"server.flower_app"}
    assert named <= folders
