"""The house keeps its order: imports run one way, files and functions stay small, starting up stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = (
    "errors schemas manifests parquet tables decisions engine archive languages quality licenses optout dedup scrub "
    "corpus releases adapters training evaluation portal commands cli"
).split()
DATA_ROOMS = {"archive", "languages", "quality", "licenses", "optout", "dedup", "scrub"}
FORBIDDEN_NAMES = {"utils", "common", "helpers", "base", "manager", "core"}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_RESOURCE_LINES = 400, 60, 60
LIBRARY = sorted((ROOT / "stack_platform").rglob("*.py"))
CODE = [*LIBRARY, *sorted((ROOT / "resources").rglob("*.py")), *sorted((ROOT / "assets").rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "stack_platform").with_suffix("").parts
    return parts[0]


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    """A module imports only from its own room and from rooms before it; data rooms never import each other."""
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ORDER, f"{name_of(path)} lives in a room the order does not name"
    for imported in imports_of(path):
        top, _, rest = imported.partition(".")
        assert top not in {"dagster", "assets", "resources"}, f"{name_of(path)} imports {imported}"
        if top != "stack_platform" or not rest:
            continue
        other = rest.split(".")[0]
        assert ORDER.index(other) <= ORDER.index(room), (
            f"{name_of(path)} imports {imported}, which comes later"
        )
        neighbors = other in DATA_ROOMS and room in DATA_ROOMS and other != room
        assert not neighbors, f"{name_of(path)} imports {imported} from a neighboring data room"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_no_module_takes_names_from_its_own_package(path: Path) -> None:
    """Cycles come from packages that import themselves; a neighbor is imported as the module it is."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    modules = {f"{package}.{neighbor.stem}" for neighbor in path.parent.iterdir()} | {package}
    if path.name != "__init__.py" and package != "stack_platform":
        taken = {name for name in imports_of(path) if name.rpartition(".")[0] == package} - modules
        assert not taken, f"{name_of(path)} takes {taken} from its package's __init__"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    limit = MAX_RESOURCE_LINES if path.parent.name == "resources" else MAX_FILE_LINES
    assert text.count("\n") <= limit
    assert path.stem not in FORBIDDEN_NAMES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name_of(path)}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "assets").glob("*.py")), ids=name_of)
def test_asset_bodies_are_thin(path: Path) -> None:
    """A body has at most 15 statements' lines and no loop: loops about data belong in the library."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        decorators = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
        if not decorators & {"dg.asset", "dg.asset_check", "dg.multi_asset"}:
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
        assert lines <= 15, f"{name_of(path)}: {node.name} has {lines} lines"
        assert not any(isinstance(inner, ast.For | ast.While) for inner in ast.walk(node)), (
            f"{node.name} loops"
        )


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("stack_platform.cli", {"torch", "transformers", "dagster", "numba", "pandas"}),
        ("assets.definitions", {"torch", "transformers", "datasets", "bitsandbytes", "numba"}),
    ],
)
def test_starting_up_is_light(module: str, banned: set[str]) -> None:
    script = f"import sys, {module}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not banned & set(done.stdout.split())


def test_readme_map_names_what_is_there() -> None:
    """Every folder and module of the README's map exists, and every room of the library is on it."""
    lines = (ROOT / "README.md").read_text().split("```")
    tree = next(block for block in lines if block.startswith("text\nstack_platform/"))
    for room in sorted({room_of(path) for path in LIBRARY} - {"__init__"}):
        assert f"{room}/" in tree or f"{room}.py" in tree, f"the README's map lacks {room}"
    for top in ("assets/", "resources/", "tests/", "benchmarks/", "docs/", "workspace.yaml"):
        assert top in tree
