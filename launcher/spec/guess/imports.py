"""What a folder's Python code imports, and which distributions bring that."""

from __future__ import annotations

import ast
import os
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

MAX_FILES = 500
MAX_FOLDERS = 2000
DATA_FOLDERS = ("data", "dataset", "datasets", "inputs")
MAX_BYTES = 1 << 20
SKIPPED = frozenset(
    ("venv", "env", "node_modules", "build", "dist", "site-packages", "__pycache__", "tests", "test", "docs")
)
# Import name to distribution name, where they differ.
DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google.protobuf": "protobuf",
    "hydra": "hydra-core",
    "lightning_fabric": "lightning",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "pytorch_lightning": "pytorch-lightning",
    "pywt": "PyWavelets",
    "rdkit": "rdkit",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "tensorboardX": "tensorboardX",
    "torch_geometric": "torch-geometric",
    "umap": "umap-learn",
    "usb": "pyusb",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
IMPORT_ERRORS = frozenset(("ImportError", "ModuleNotFoundError", "Exception"))


def sources(folder: Path) -> dict[Path, ast.Module]:
    """Parse the Python files of a folder, a bounded number of them; those that don't parse are left out."""
    found: dict[Path, ast.Module] = {}
    for path in python_files(folder):
        if len(found) >= MAX_FILES:
            break
        if (tree := parse(path)) is not None:
            found[path] = tree
    return found


def python_files(folder: Path) -> Iterator[Path]:
    """Yield the files that belong to the code, a bounded number of folders deep and wide."""
    for visited, (where, folders, files) in enumerate(os.walk(folder)):
        here = Path(where)
        folders[:] = sorted(name for name in folders if is_code(here / name)) if visited < MAX_FOLDERS else []
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith((".", "test_")) and name not in ("setup.py", "conftest.py"):
                yield here / name


def is_code(folder: Path) -> bool:
    if folder.name.startswith(".") or folder.name in SKIPPED or (folder / "pyvenv.cfg").exists():
        return False
    return not is_data(folder)


def is_data(folder: Path) -> bool:
    """Tell whether a folder is named like data and has no code: `data/` may be a package of loaders as well."""
    return folder.name in DATA_FOLDERS and folder.is_dir() and not any(folder.glob("*.py"))


def parse(path: Path) -> ast.Module | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        with tokenize.open(path) as stream:
            return ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def distributions(folder: Path, parsed: Mapping[Path, ast.Module]) -> tuple[str, ...]:
    """Return the distributions that code in a folder needs, sorted: neither the standard library nor its own."""
    names: set[str] = set()
    for tree in parsed.values():
        names |= set(imported(tree))
    foreign = {name for name in names - set(sys.stdlib_module_names) if name.isascii() and not name.startswith("_")}
    foreign -= own_modules(folder, parsed)
    return tuple(sorted({DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in foreign}, key=str.lower))


def own_modules(folder: Path, parsed: Mapping[Path, ast.Module]) -> set[str]:
    """Return the names that code in the folder itself may be imported by: of its files, and of its folders."""
    own = {path.stem for path in parsed} | {path.name for path in folder.iterdir() if path.is_dir()}
    for path in parsed:
        own |= set(path.relative_to(folder).parts[:-1])
    return own


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the top-level modules that are imported and have to be there: not what a try guards."""
    if isinstance(node, ast.Import):
        yield from (top_level(alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield top_level(node.module)
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Try) and guards(child)) and not is_type_checking(child):
            yield from imported(child)


def top_level(module: str) -> str:
    return "google.protobuf" if module.startswith("google.protobuf") else module.partition(".")[0]


def guards(node: ast.Try) -> bool:
    """Tell whether a try statement lives without what it imports."""
    for handler in node.handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if any(kind is None or (isinstance(kind, ast.Name) and kind.id in IMPORT_ERRORS) for kind in kinds):
            return True
    return False


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
