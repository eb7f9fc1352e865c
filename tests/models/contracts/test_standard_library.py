from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import models.contracts

FOLDER = Path(models.contracts.__file__).parent
# Pictures need Pillow, and nothing else there imports that package (see .importlinter).
MODULES = sorted(path for path in FOLDER.rglob("*.py") if path != FOLDER / "picture" / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_what_all_packages_share_needs_the_standard_library_alone(path: Path) -> None:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names: set[str] = set()
    for node in tree:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(node.module or "")
    foreign = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert all(name == "models.contracts" or name.startswith("models.contracts.") for name in foreign)
    if path.parent == FOLDER:
        assert not any(name.startswith("models.contracts.picture") for name in foreign)
