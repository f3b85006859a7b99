"""Makes plans: goes through the stages that a format lists, and lets each make its step.

A stage's work is `exporters.stages.STAGE`; the family's or the contract's part of it is
`PACKAGE.STAGE`, where there is such a module.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.lineage import FIRST, find_source
from modelkiln.catalog.pictures import ChoosePictures
from modelkiln.catalog.target import Target
from modelkiln.errors import UsageError
from modelkiln.planning.graph import Plan, TargetPlan, TargetStatus
from modelkiln.planning.maker import ModuleExists, SourceDigest, StepMaker
from modelkiln.planning.stages import find_stages
from modelkiln.planning.stages.making import Making


class Planner:
    """Makes plans from a catalog.

    Args:
        catalog: What can be built.
        exists: Whether a module is there.
        sources: The digests of a step's source files, by name; raises where one is missing.
        choose: Chooses calibration pictures of a folder.
        has_gpu: Whether this machine has a GPU; asked where a step would use one.
    """

    def __init__(
        self,
        catalog: Catalog,
        exists: ModuleExists,
        sources: SourceDigest,
        choose: ChoosePictures,
        has_gpu: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._stages = find_stages(catalog.folders[1:])
        self._maker = StepMaker(catalog, exists, sources)
        self._choose = choose
        self._has_gpu = has_gpu

    def plan(self, targets: Iterable[Target], until: str | None = None) -> Plan:
        """Return the steps of these targets; `until` leaves out the stages that come after it."""
        self._maker.steps = {}
        planned = [self._plan_target(target, until) for target in targets]
        return Plan(steps=self._maker.steps, targets=tuple(planned))

    def _plan_target(self, target: Target, until: str | None) -> TargetPlan:
        return self._go_through(target, until, {})

    def _go_through(self, target: Target, until: str | None, made: dict[str, str]) -> TargetPlan:
        """Make the steps of a target, behind those of the one whose verified files it takes."""
        source = find_source(self._catalog, target)
        base = source or target
        stages = target.format.stages
        if source and target.format.made_from:
            before = self._go_through(source, until, made)
            if until in made:
                return replace(before, target=target)
        else:
            stages = (FIRST, *stages)
        graphs = ""
        for stage in stages:
            graphs = made[stage] = self._make(stage, target, base, made)
            if stage == until:
                break
        status, verify = TargetStatus.BUILT, graphs
        for stage in target.format.checks if until is None else ():
            verify = made[stage] = self._make(stage, target, base, made)
            status = self._stages[stage].grants
        return TargetPlan(target=target, graphs=graphs, verify=verify, status=status)

    def _make(self, name: str, target: Target, base: Target, made: Mapping[str, str]) -> str:
        stage = self._stages.get(name)
        if stage is None or name not in self._catalog.stages:
            known = ", ".join(sorted(self._stages.keys() & self._catalog.stages.keys()))
            raise UsageError(
                f"The format {target.format.name} has a stage {name!r}.",
                f"The stages that planning has, and stages.toml limits, are {known}.",
                "Correct its file, or add the stage: see docs/adding.md.",
            )
        making = Making(
            target=target,
            base=base,
            made=made,
            stages=self._stages,
            catalog=self._catalog,
            maker=self._maker,
            choose=self._choose,
            has_gpu=self._has_gpu,
        )
        return stage.plan(making)
