"""No two files of system tests make an instance of the same name in the namespace that they share.

The second one would find the instance of the first, and its create would end as `AlreadyExists`, but in a run of both
files only. A name is found where it is written as a string or as a constant of its file, in the call that makes the
instance or in that of a function of the file that passes it on; one that is put together at run time is not found.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

SYSTEM = Path(__file__).parents[1] / "system"
MAKERS: Mapping[str, int] = {"create": 0, "service": 0, "lay_out": 1, "deploy": 1, "deployflow": 1}
"""Functions and methods that make an instance or its Service, with the place of its name among their arguments.

`deployflow` is one where its action is `create`.
"""


def made_names(text: str) -> set[str]:
    """Return the names of the instances that a file makes in the shared namespace."""
    tree = ast.parse(text)
    if _has_its_own_namespace(tree):
        return set()
    makers = _makers(tree)
    of_file = dict(_constants(tree.body))
    names: set[str | None] = set()
    for part in tree.body:
        constants = of_file | dict(_constants(ast.walk(part)))
        for call in _calls(part):
            for name in _argument(call, makers):
                names.add(constants.get(name.id) if isinstance(name, ast.Name) else _string(name))
    return {name for name in names if name}


def shared_names(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names that more than one of the files makes, and these files."""
    files = defaultdict(list)
    for file, text in sorted(texts.items()):
        for name in made_names(text):
            files[name].append(file)
    return {name: found for name, found in files.items() if len(found) > 1}


def _has_its_own_namespace(tree: ast.Module) -> bool:
    """Return whether the file has a fixture `releases` of its own, or names a namespace where it makes `Releases`."""
    fixture = any(
        isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.name == "releases"
        for part in tree.body
    )
    return fixture or any(_called(call) == "Releases" and len(call.args) > 1 for call in _calls(tree))


def _constants(parts: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    for part in parts:
        match part:
            case ast.Assign(targets=[ast.Name(name)], value=value) | ast.AnnAssign(
                ast.Name(name), value=value
            ):
                text = _string(value)
                if text is not None:
                    yield name, text


def _makers(tree: ast.Module) -> dict[str, int]:
    """Return `MAKERS`, and the functions of the file that pass one of their parameters on to one of these."""
    makers = dict(MAKERS)
    functions = [part for part in tree.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))]
    count = 0
    while count < len(makers):
        count = len(makers)
        for function in functions:
            parameters = [parameter.arg for parameter in function.args.args]
            for call in _calls(function):
                for name in _argument(call, makers):
                    if isinstance(name, ast.Name) and name.id in parameters:
                        makers[function.name] = parameters.index(name.id)
    return makers


def _argument(call: ast.Call, makers: Mapping[str, int]) -> list[ast.expr]:
    place = makers.get(_called(call))
    if place is None or (_called(call) == "deployflow" and not _creates(call)):
        return []
    return call.args[place : place + 1]


def _creates(call: ast.Call) -> bool:
    return any(keyword.arg == "action" and _string(keyword.value) == "create" for keyword in call.keywords)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _string(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_no_two_files_make_an_instance_of_the_same_name() -> None:
    shared = shared_names({file.name: file.read_text() for file in SYSTEM.glob("test_*.py")})
    assert not shared, f"name these instances differently in each file: {shared}"


@pytest.mark.parametrize(
    "text",
    [
        'async def test(releases): await releases.create("web", 2)',
        'WEB = "web"\nasync def test(releases): await releases.service(WEB)',
        'async def begin(name): deployflow(f"{name}-1", name, action="create")\nasync def test(): await begin("web")',
    ],
    ids=["as a string", "as a constant", "by a function of the file"],
)
def test_a_name_is_found_in_two_files(text: str) -> None:
    assert shared_names({"a": text, "b": text}) == {"web": ["a", "b"]}


@pytest.mark.parametrize(
    "text",
    [
        'async def releases(sandbox): ...\nasync def test(releases): await releases.create("web", 2)',
        'async def test(sandbox):\n  async with Releases(sandbox, "mine") as own: await own.create("web")',
        'async def test(client): await client.create(PODS, "web", {})',
        'async def test(releases): await releases.apply(deployflow("web-2", "web", image="nginx:2"))',
    ],
    ids=["with a fixture of its own", "with a namespace that it names", "of another call", "of an update"],
)
def test_a_file_that_makes_none_in_the_shared_namespace_has_none(text: str) -> None:
    assert not made_names(text)
