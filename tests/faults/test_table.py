"""Every fault that is named has tests, and they are there."""

import ast
import re
from pathlib import Path

import pytest

import tests.faults

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| (?P<short>[^|]+) \| (?P<long>[^|]+) \|$", re.M)
NAME = re.compile(r"([\w/]+\.py)::(\w+)")
ROWS = [
    found
    for found in ROW.finditer(tests.faults.__doc__ or "")
    if not found["fault"].startswith(("fault", "---"))
]


def names_in(path: str) -> set[str]:
    module = ast.parse((ROOT / "tests" / path).read_text())
    return {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}


def test_the_table_has_rows() -> None:
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["fault"].strip())
def test_a_faults_tests_exist(row: re.Match[str]) -> None:
    assert NAME.search(row["short"]), "a row without a short form"
    for path, name in NAME.findall(row[0]):
        assert name in names_in(path), f"{path}::{name}"


def test_every_test_here_that_raises_a_fault_is_in_the_table() -> None:
    named = {name for row in ROWS for _path, name in NAME.findall(row[0])}
    helpers = {"test_checker.py", "test_table.py"}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name not in helpers:
            here = {name for name in names_in(f"faults/{path.name}") if name.startswith("test_")}
            assert here <= named, path.name
