"""The package's source, as the architecture test looks at it: modules and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "pixir_actors"


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is a module's full name, `name` what is taken from it, if anything."""

    target: str
    name: str | None
    line: int
    later: bool


@dataclass(frozen=True)
class Module:
    """One module of the package: its name without the package's, and its source."""

    name: str
    text: str
    is_package: bool = False
    known: frozenset[str] = field(default=frozenset(), repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> list[Import]:
        in_functions = {id(n) for f in functions(self.tree) for n in ast.walk(f)}
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found += [
                    Import(target, name, node.lineno, id(node) in in_functions) for target, name in self._targets(node)
                ]
        return found

    def _targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str | None]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
            return
        base = self._absolute(node)
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            is_module = submodule.removeprefix(f"{PACKAGE}.") in self.known
            yield (submodule, None) if is_module else (base, alias.name)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = PACKAGE.split(".") + ([] if self.name == "." else self.name.split("."))
        here = here[: len(here) - node.level + (1 if self.is_package else 0)]
        return ".".join(here + ([node.module] if node.module else []))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def own_name(target: str) -> str | None:
    """Return the name of a module of ours without the package's, or None for somebody else's."""
    if target == PACKAGE:
        return "."
    return target.removeprefix(f"{PACKAGE}.") if target.startswith(f"{PACKAGE}.") else None


def read_package() -> list[Module]:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    named = {module_name(path): path for path in files}
    known = frozenset(named) - {"."}
    return [Module(name, path.read_text(), path.name == "__init__.py", known) for name, path in named.items()]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "."
