"""The sizes of folders, files and classes, and the plain language of the code, stay within their limits."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MAX_FOLDER, MAX_TEST_FOLDER = 15, 20  # .py files, `__init__.py` included
MAX_FILE, MAX_TEST_FILE = 400, 500  # lines
MAX_CLASS = 250  # lines

HELD = (".",)
"""Folders and files that keep the limits so far; one that is listed here stays within them."""

# Each of them hides who or what is meant: the client, the caller, the user, another process.
UNCLEAR = ("nobody", "somebody", "anybody", "whoever", "everybody")
_UNCLEAR_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(UNCLEAR)})(?![a-z])", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_")  # where the words of an identifier meet


def held_files(*endings: str) -> list[Path]:
    """Files of the repository with these endings in `HELD`, relative to its root, untracked ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = sorted({Path(name) for name in listed.split("\0") if name.endswith(endings)})
    return [file for file in files if is_held(file) and (ROOT / file).exists()]


def is_held(file: Path) -> bool:
    return any(file == Path(held) or Path(held) in file.parents for held in HELD)


def is_test(path: Path) -> bool:
    return path.parts[:1] == ("tests",)


def read(file: Path) -> str:
    return (ROOT / file).read_text("utf-8")


def test_no_folder_holds_too_many_modules() -> None:
    counts = Counter(file.parent for file in held_files(".py"))
    offenders = {
        str(folder): count
        for folder, count in counts.items()
        if count > (MAX_TEST_FOLDER if is_test(folder) else MAX_FOLDER)
    }
    assert not offenders, f".py files per folder, at most {MAX_FOLDER} (tests {MAX_TEST_FOLDER}): {offenders}"


def test_no_file_is_too_long() -> None:
    lengths = {file: len(read(file).splitlines()) for file in held_files(".py")}
    offenders = {
        str(file): length
        for file, length in lengths.items()
        if length > (MAX_TEST_FILE if is_test(file) else MAX_FILE)
    }
    assert not offenders, f"lines per file, at most {MAX_FILE} (tests {MAX_TEST_FILE}): {offenders}"


def test_no_class_is_too_long() -> None:
    offenders = {
        f"{file}: {node.name}": length
        for file in held_files(".py")
        for node in ast.walk(ast.parse(read(file)))
        if isinstance(node, ast.ClassDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_CLASS
    }
    assert not offenders, f"lines per class, at most {MAX_CLASS}: {offenders}"


def test_docstrings_comments_and_names_say_who_is_meant() -> None:
    prose = [
        *((file, line, text) for file in held_files(".py") for line, text in python_prose(read(file))),
        *((file, *each) for file in held_files(".md") for each in enumerate(read(file).splitlines(), 1)),
    ]
    offenders = [
        f"{file}:{line}: {text.strip()}"
        for file, line, text in prose
        if file.name != "CHANGELOG.md" and _UNCLEAR_WORD.search(text)
    ]
    assert not offenders, "these hide who is meant:\n" + "\n".join(offenders)


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Line numbers and texts of all comments, names and docstrings, those of attributes included."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type == tokenize.NAME:
            yield token.start[0], _HUMP.sub(" ", token.string)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield from enumerate(text.splitlines(), node.lineno)


def test_the_words_are_found_in_each_kind_of_prose() -> None:
    word, name = UNCLEAR[0], UNCLEAR[1].capitalize()
    source = "\n".join(
        (
            f"x = 1  # {word} waits",
            f'"""Told to {word}."""',
            f"class Told{name}Error: ...",
            f'A_{word.upper()} = "{word}"',
        )
    )
    found = [line for line, text in python_prose(source) if _UNCLEAR_WORD.search(text)]
    assert sorted(found) == [1, 2, 3, 4]


def test_the_map_of_folders_is_complete() -> None:
    """CONTRIBUTING names every folder with a module, and none that is not there."""
    contributing = read(Path("CONTRIBUTING.md"))
    table = contributing[contributing.index("## Where things are") : contributing.index("## Habits")]
    named: set[str] = set()
    for row in re.findall(r"^\| `([a-z_/]+)/` \| (.*) \|$", table, re.M):
        named |= {row[0], *(f"{row[0]}/{name}" for name in re.findall(r"`([a-z_]+)/`", row[1]))}
    there = {str(file.parent) for file in held_files(".py")} - {"."}
    sources = {folder for folder in there if not folder.startswith("tests/")}
    assert sources <= named, f"not in CONTRIBUTING: {sources - named}"
    gone = {folder for folder in named if not (ROOT / folder).is_dir()}
    assert not gone, f"in CONTRIBUTING, and not there: {gone}"


def test_documents_name_only_files_that_exist() -> None:
    tops = "benchmarks|deploy|loadtest|models|service|tests"
    missing = [
        f"{file}: {path}"
        for file in held_files(".md")
        if file.name != "CHANGELOG.md"
        for path in re.findall(rf"(?<![\w/.:-])((?:{tops})/[\w/.-]*[\w/])", read(file))
        if not (ROOT / path).exists()
    ]
    assert not missing
