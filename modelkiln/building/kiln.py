"""A kiln: catalog, sources, store and caches opened together for one command."""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from modelkiln.building.options import Options
from modelkiln.catalog.catalog import Catalog, load_catalog
from modelkiln.catalog.pictures import Pictures, choose_pictures
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights, Weights, parse_weights
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import KilnError, UsageError
from modelkiln.paths import REPOSITORY, artifacts_root, cache_root, catalog_folders
from modelkiln.planning.sources import SourceTree
from modelkiln.runners.choice import check_name, contains_stages
from modelkiln.store.store import Store
from modelkiln.util.machine import gpu_identity
from modelkiln.util.statcache import StatCache


class Kiln:
    """Everything that a command works with; reads lazily, so that a null build is quick.

    What a command decides (its plan, its runner) is `prepare`'s to say, and not kept here.

    Args:
        artifacts: The store's folder, where it is not the usual one.
        question: The digest of the command, where its answer may be remembered.
    """

    def __init__(
        self,
        options: Options | None = None,
        artifacts: Path | None = None,
        question: str = "",
    ) -> None:
        self.options = options or Options()
        self.question = question
        self.artifacts = artifacts or artifacts_root()
        self.cache = cache_root()
        check_name(self.options.runner)
        self._pictures: dict[tuple[Path, str, int], Pictures] = {}

    @cached_property
    def catalog(self) -> Catalog:
        return load_catalog(catalog_folders())

    @cached_property
    def store(self) -> Store:
        return Store(self.artifacts)

    @cached_property
    def provisioner(self) -> Provisioner:
        """What stages are provided with: environments and tools."""
        return Provisioner(cache=self.cache, offline=self.options.offline)

    @cached_property
    def stat_cache(self) -> StatCache:
        return StatCache(self.artifacts / "cache" / "stat.json")

    @cached_property
    def sources(self) -> SourceTree:
        imports: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, TypeError):
            imports = dict(json.loads(self._imports_path.read_text(encoding="utf-8")))
        roots = (*reversed(catalog_folders()[1:]), REPOSITORY)
        return SourceTree(roots=roots, digest=self.stat_cache.digest, imports=imports)

    @property
    def _imports_path(self) -> Path:
        return self.artifacts / "cache" / "imports.json"

    @cached_property
    def weights(self) -> Weights:
        """What `--weights` means; UsageError where it is neither a word nor a good file."""
        known = parse_weights(self.options.weights)
        if known is not None:
            return known
        from modelkiln.fetch.checkpoints import identify

        found = identify(
            Path(self.options.weights),
            trust=self.options.trust or contains_stages(self.options.runner),
            pinned={model.checkpoint.sha256 for model in self.catalog.models.values()},
            digest=self.stat_cache.digest,
        )
        return FileWeights(
            path=str(found.path),
            sha256=found.sha256,
            format=found.format,
            bytes=found.path.stat().st_size,
        )

    @cached_property
    def gpu(self) -> str:
        """The name of this machine's GPU and the version of its driver; empty without one."""
        return gpu_identity()

    def targets(self, text: str | Sequence[str]) -> list[Target]:
        """Return the targets that a command line names: targets and globs, separated by commas."""
        texts = text.split(",") if isinstance(text, str) else list(text)
        self._check_parameters()
        return select_targets(
            self.catalog, texts, self.weights, self.options.parameters, self.choose_pictures
        )

    def choose_pictures(self, folder: Path, extension: str, count: int) -> Pictures:
        """Return the calibration pictures of a folder, looked for once a command.

        Raises:
            UsageError: There is no such folder, or too few in it.
        """
        asked = (folder, extension, count)
        if asked not in self._pictures:
            self._pictures[asked] = choose_pictures(
                folder, extension, count, self.stat_cache.digest
            )
        return self._pictures[asked]

    def _check_parameters(self) -> None:
        contracts, formats = self.catalog.contracts.values(), self.catalog.formats.values()
        known = {name for one in contracts for name in one.parameters}
        known.update(name for one in formats for name in one.parameters)
        for name in self.options.parameters:
            if name not in known:
                raise UsageError(
                    f"No contract or format has a parameter {name!r}.",
                    f"Known: {', '.join(sorted(known))}.",
                    "invoke targets shows every target.",
                )

    def save_caches(self) -> None:
        """Keep what was learned of unchanged files; where that fails it only costs time."""
        from modelkiln.util.atomic import write_file

        self.stat_cache.save()
        text = json.dumps(self.sources.imports, sort_keys=True)
        with suppress(OSError, KilnError):
            if self._imports_path.is_file() and self._imports_path.read_text() == text:
                return
            write_file(self._imports_path, text.encode(), durable=False)
