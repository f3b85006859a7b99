"""What every step of a plan has in common: its modules, its limits, and one step of a name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.models import Model
from modelkiln.errors import UsageError
from modelkiln.planning.graph import Input, Step

ModuleExists = Callable[[str], bool]
SourceDigest = Callable[[Iterable[str]], Mapping[str, str]]


class StepMaker:
    """Makes the steps of one plan.

    Args:
        catalog: What can be built.
        exists: Whether a module is there.
        sources: The digests of a step's source files, by name; raises where one is missing.

    Attributes:
        steps: Those made, by id, in their order.
    """

    def __init__(self, catalog: Catalog, exists: ModuleExists, sources: SourceDigest) -> None:
        self._catalog = catalog
        self._exists = exists
        self._sources = sources
        self.steps: dict[str, Step] = {}

    def add(
        self,
        stage: str,
        step_id: str,
        model: Model,
        package: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Input],
        *,
        environment: str = "",
        modules: tuple[str, ...] = (),
        gpu: bool = False,
        unpromised: frozenset[str] = frozenset(),
    ) -> str:
        """Add a step, unless it is there already; returns its id.

        Args:
            package: The family's or the contract's part of the exporters.
            environment: Its environment, where it is not the model's.
            modules: Its modules, where they are not those of its stage.
            gpu: Whether it needs a GPU, whatever its stage does.
            unpromised: The outputs that may have other bytes each time it runs.

        Raises:
            UsageError: There is another step of that id, or a module is missing.
        """
        limits = self._catalog.stages[stage]
        modules = modules or self.modules(stage, package)
        self._sources(modules)
        step = Step(
            id=step_id,
            stage=stage,
            environment=environment or model.environment,
            modules=modules,
            params=params,
            inputs=dict(sorted(inputs.items())),
            cpus=limits.cpus,
            memory=limits.memory(model.checkpoint.bytes),
            disk=limits.disk(model.checkpoint.bytes),
            timeout_s=limits.timeout_s,
            key=tuple(dict.fromkeys((*limits.key, *(("gpu",) if gpu else ())))),
            unpromised=unpromised,
        )
        if self.steps.setdefault(step_id, step) != step:
            raise UsageError(
                f"The catalog makes two different steps of {step_id}.",
                f"Contracts of the provider {package} share it, and their pictures differ.",
                "Give them the same pictures, or a provider each.",
            )
        return step_id

    def modules(self, stage: str, package: str) -> tuple[str, ...]:
        """Return the modules of a stage: its own, and the part that the package has of it."""
        own = f"exporters.stages.{stage}"
        part = f"{package}.{stage}"
        return (own, part) if self._exists(part) else (own,)

    def sources_of(self, stages: Iterable[str], package: str) -> dict[str, dict[str, str]]:
        """Return the digests of the source files of stages, by stage and name."""
        return {stage: dict(self._sources(self.modules(stage, package))) for stage in stages}
