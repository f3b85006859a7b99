"""The source of a stage: the modules under exporters/ that it can import, found statically.

The runner copies just these files to where a stage runs, so a module that the walk has not found
cannot be imported there, and the digest in the key covers all that can be loaded.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelkiln.errors import UsageError

ROOM = "exporters"
ENTRY = "exporters.__main__"


@dataclass(kw_only=True)
class SourceTree:
    """The exporters' room as seen from the host.

    Attributes:
        roots: Folders that hold an `exporters/` folder; the first that has a module wins.
        digest: SHA-256 of a file, from the stat cache.
        imports: Cache of what a file imports, by the file's SHA-256; extended in place.
    """

    roots: tuple[Path, ...]
    digest: Callable[[Path], str]
    imports: dict[str, list[str]] = field(default_factory=dict)
    _files: dict[str, Path | None] = field(default_factory=dict)
    _digests: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)
    _closures: dict[tuple[str, ...], dict[str, Path]] = field(default_factory=dict)

    def find(self, module: str) -> Path | None:
        """Return the file of a module, or None where there is no such module."""
        if module not in self._files:
            relative = module.replace(".", "/")
            candidates = (
                path
                for root in self.roots
                for path in (root / f"{relative}.py", root / relative / "__init__.py")
            )
            self._files[module] = next((path for path in candidates if path.is_file()), None)
        return self._files[module]

    def closure(self, modules: Iterable[str]) -> dict[str, Path]:
        """Find every file that the entry and these modules can import, by path below a root.

        Raises:
            UsageError: one of `modules` does not exist.
        """
        wanted = tuple(modules)
        if wanted not in self._closures:
            self._closures[wanted] = self._walk(wanted)
        return self._closures[wanted]

    def _walk(self, modules: tuple[str, ...]) -> dict[str, Path]:
        for module in modules:
            if self.find(module) is None:
                raise UsageError(
                    f"There is no module {module}.",
                    "The catalog names it as part of a stage.",
                    "Restore the file with git, or correct the catalog.",
                )
        found: dict[str, Path] = {}
        queue = [ENTRY, *modules]
        seen: set[str] = set()
        while queue:
            module = queue.pop()
            if module in seen:
                continue
            seen.add(module)
            path = self.find(module)
            if path is None:
                continue
            package = path.name == "__init__.py"
            name = module.replace(".", "/") + ("/__init__.py" if package else ".py")
            found[name] = path
            queue.extend(_parents(module))
            queue.extend(self._imports(path))
        return dict(sorted(found.items()))

    def _imports(self, path: Path) -> list[str]:
        digest = self.digest(path)
        if digest not in self.imports:
            self.imports[digest] = read_imports(path.read_text(encoding="utf-8"), str(path))
        return self.imports[digest]

    def digests(self, modules: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of each file of the closure, by its path below a root; read once a
        command.
        """
        wanted = tuple(modules)
        if wanted not in self._digests:
            files = self.closure(wanted)
            self._digests[wanted] = {name: self.digest(path) for name, path in files.items()}
        return self._digests[wanted]


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def read_imports(text: str, name: str = "<source>") -> list[str]:
    """Return the modules of the room that a source text imports, at any depth, sorted.

    A `from package import name` counts both the package and `package.name`; the caller drops those
    that are no modules. Relative imports are refused: the house has none.
    """
    import ast

    try:
        tree = ast.parse(text, name)
    except SyntaxError as error:
        raise UsageError(
            f"{name} is not valid Python.",
            f"{error.msg}, line {error.lineno}.",
            "Correct the file.",
        ) from error
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise UsageError(
                    f"{name}, line {node.lineno}: relative import.",
                    "The source walk reads absolute imports only.",
                    "Write the module's full name.",
                )
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return sorted(one for one in found if one == ROOM or one.startswith(f"{ROOM}."))
