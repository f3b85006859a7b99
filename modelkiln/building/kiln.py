"""A kiln: catalog, sources, store and caches opened together for one command."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from modelkiln.catalog.catalog import Catalog, load_catalog
from modelkiln.catalog.pictures import Pictures, choose_pictures
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import Weights, parse_weights
from modelkiln.environments.base_images import BasePin, load_base
from modelkiln.environments.environment import Environment, environment
from modelkiln.errors import KilnError, UsageError
from modelkiln.paths import REPOSITORY, artifacts_root, cache_root, catalog_folders
from modelkiln.planning.graph import Plan
from modelkiln.planning.keys import KeyMaker, Resolved, Status, resolve
from modelkiln.planning.planner import Planner
from modelkiln.planning.sources import SourceTree
from modelkiln.runners.choice import Choice, RunnerName, choose, parse_runner, require_dockerfile
from modelkiln.store.records import Record
from modelkiln.store.store import Store
from modelkiln.util import console
from modelkiln.util.machine import cpu_level, gpu_identity
from modelkiln.util.statcache import StatCache


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the flags that every command takes say.

    Attributes:
        weights: `official`, `random[:SEED]`, or a path.
        trust: Whether a pickle of the user's own may be opened, which runs its code.
        runner: `auto`, `docker` or `local`.
        jobs: Steps at once; 0 for as many as the machine takes.
        mirrors: URL prefixes or folders that hold checkpoints.
        parameters: Parameters of contracts and formats given as flags.
    """

    weights: str = "official"
    trust: bool = False
    runner: str = "auto"
    jobs: int = 0
    keep_going: bool = False
    offline: bool = False
    mirrors: tuple[str, ...] = ()
    keep_scratch: bool = False
    parameters: Mapping[str, str | int] = field(default_factory=dict)


class Kiln:
    """Everything that a command works with; reads lazily, so that a null build is quick.

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
        self.runner_name = parse_runner(self.options.runner)
        self._choice: Choice | None = None
        self._pictures: dict[tuple[Path, str, int], Pictures] = {}
        self._known_identities: dict[tuple[RunnerName, str], Mapping[str, Any]] = {}

    @cached_property
    def catalog(self) -> Catalog:
        return load_catalog(catalog_folders())

    @cached_property
    def store(self) -> Store:
        return Store(self.artifacts)

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
        from modelkiln.catalog.weights import FileWeights
        from modelkiln.fetch.checkpoints import identify

        found = identify(
            Path(self.options.weights),
            # A container keeps what a pickle runs to itself.
            trust=self.options.trust or self.runner_name is RunnerName.DOCKER,
            pinned={model.checkpoint.sha256 for model in self.catalog.models.values()},
            digest=self.stat_cache.digest,
        )
        return FileWeights(
            path=str(found.path),
            sha256=found.sha256,
            format=found.format,
            bytes=found.path.stat().st_size,
        )

    def environment(self, name: str) -> Environment:
        """An environment: a folder of docker/, in the repository or beside a further catalog."""
        for folder in catalog_folders()[1:]:
            if (folder / "docker" / name).is_dir():
                return environment(name, folder / "docker")
        return environment(name)

    def environments(self) -> Iterator[Environment]:
        """Every environment of this checkout and of further catalogs."""
        rooms = [*(folder / "docker" for folder in catalog_folders()[1:]), REPOSITORY / "docker"]
        locks = [lock for room in rooms for lock in sorted(room.glob("*/requirements.txt"))]
        for name in dict.fromkeys(lock.parent.name for lock in locks):
            yield self.environment(name)

    def base(self, environment: Environment) -> BasePin:
        """The base of an environment's image; PinError where it is not pinned."""
        return load_base(environment.base)

    def choose_runner(self, names: Iterable[str]) -> Choice:
        """The runner for steps in these environments; once chosen, it is that of the command."""
        if self._choice is None:
            self._choice = choose(self, names)
            if self._choice.why:
                console.note(str(self._choice))
        return self._choice

    def _identities(self, name: str) -> Iterator[Mapping[str, Any]]:
        """What an environment is, under each runner whose records count, the one in use first."""
        one = self.environment(name)
        names = [RunnerName.LOCAL, RunnerName.DOCKER]
        if self.runner_name is not RunnerName.AUTO:
            names = [self.runner_name]
        elif self._choice is not None and self._choice.name is RunnerName.DOCKER:
            names.reverse()
        for runner in names:
            if (runner, name) not in self._known_identities:
                if runner is RunnerName.LOCAL:
                    identity = one.identity()
                elif self.runner_name is RunnerName.DOCKER or one.dockerfile.is_file():
                    require_dockerfile(one)
                    identity = one.image_identity(self.base(one))
                else:
                    continue
                # Read once: the same for every step of the command.
                self._known_identities[runner, name] = identity
            yield self._known_identities[runner, name]

    @cached_property
    def keys(self) -> KeyMaker:
        return KeyMaker(
            sources=self.sources,
            environments=self._identities,
            threads=self.catalog.threads,
            seed=self.catalog.seed,
            cpu_level=cpu_level,
            gpu=gpu_identity,
        )

    def targets(self, text: str | Sequence[str]) -> list[Target]:
        """The targets that a command line names: targets and globs, separated by commas."""
        texts = text.split(",") if isinstance(text, str) else list(text)
        self._check_parameters()
        return select_targets(
            self.catalog, texts, self.weights, self.options.parameters, self.choose_pictures
        )

    def choose_pictures(self, folder: Path, extension: str, count: int) -> Pictures:
        """The calibration pictures of a folder, looked for once a command.

        Raises:
            UsageError: There is no such folder, or too few in it.
        """
        asked = (folder, extension, count)
        if asked not in self._pictures:
            self._pictures[asked] = choose_pictures(
                folder, extension, count, self.stat_cache.digest
            )
        return self._pictures[asked]

    @cached_property
    def has_gpu(self) -> bool:
        """Whether this machine has a GPU."""
        return bool(gpu_identity())

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

    def plan(self, targets: Sequence[Target], until: str | None = None) -> Plan:
        """The plan for these targets."""
        planner = Planner(
            self.catalog,
            exists=lambda module: self.sources.find(module) is not None,
            sources=self.sources.digests,
            choose=self.choose_pictures,
            has_gpu=lambda: self.has_gpu,
        )
        return planner.plan(targets, until)

    def lookup(self, key: str) -> Record | None:
        """A record whose outputs are all there."""
        return self.store.hit(key)

    def resolve(self, plan: Plan) -> dict[str, Resolved]:
        """The status of every step of a plan; nothing is built.

        Only where something is to do, and `--runner auto` leaves it open by what, an engine is
        asked for.
        """
        found = resolve(plan, self.keys, self.lookup)
        missing = {one.step.environment for one in found.values() if one.status is not Status.HIT}
        if missing and self.runner_name is RunnerName.AUTO and self._choice is None:
            self.choose_runner(missing)
            found = resolve(plan, self.keys, self.lookup)
        return found

    def save_caches(self) -> None:
        """Keep what was learned of unchanged files; where that fails it only costs time."""
        from modelkiln.util.atomic import write_file

        self.stat_cache.save()
        text = json.dumps(self.sources.imports, sort_keys=True)
        with suppress(OSError, KilnError):
            if self._imports_path.is_file() and self._imports_path.read_text() == text:
                return
            write_file(self._imports_path, text.encode(), durable=False)
