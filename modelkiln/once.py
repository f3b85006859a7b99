"""Running a stage once, outside of any plan: nothing of it is recorded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkiln import console
from modelkiln.contract import Contract
from modelkiln.errors import UsageError, VerificationFailure
from modelkiln.hashing import sha256_file
from modelkiln.kiln import Kiln
from modelkiln.machine import require_gpu
from modelkiln.publish import MANIFEST, target_folder
from modelkiln.runners import make_runner
from modelkiln.stage import Job, Outcome
from modelkiln.target import Target

LACKS = {
    "predict": "draws no single picture",
    "track": "has no memory modules, so it cannot follow anything through a video",
}


def find_manifest(kiln: Kiln, target: Target) -> dict[str, Any]:
    """The manifest of a built target.

    Raises:
        UsageError: it has not been built.
    """
    import json

    path = target_folder(kiln, target) / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{target.name} has not been built.",
            f"There is no {path}.",
            f"invoke build {target.name}",
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{path} is damaged.", str(error), f"invoke build {target.name} restores it."
        ) from error
    return manifest


def check_files(kiln: Kiln, target: Target, manifest: Mapping[str, Any]) -> None:
    """Compare the published files with the manifest, read in full.

    Raises:
        VerificationFailure: one differs.
    """
    folder = target_folder(kiln, target)
    changed = [
        name
        for name, pin in sorted(manifest["files"].items())
        if not (folder / name).is_file() or sha256_file(folder / name) != pin["sha256"]
    ]
    if changed:
        raise VerificationFailure(
            f"{target.name}: files differ from the manifest: {', '.join(changed)}.",
            "They were edited or damaged after they had been published.",
            f"invoke build {target.name} restores them.",
        )


def stage_modules(kiln: Kiln, target: Target, stage: str) -> tuple[str, str]:
    """The modules of a stage that a target's graphs can be used with.

    Raises:
        UsageError: its contract is not made for that.
    """

    def part(contract: Contract) -> str:
        return f"{contract.provider}.{stage}"

    if kiln.sources.find(part(target.contract)) is not None:
        return f"exporters.stages.{stage}", part(target.contract)
    able = [one for one in kiln.catalog.contracts.values() if kiln.sources.find(part(one))]
    others = (
        f"{model}/{one.name}/{one.formats[0]}"
        for model in (target.model.name, *kiln.catalog.models)
        for one in able
        if model in one.models
    )
    names = ", ".join(dict.fromkeys(one.name for one in able))
    raise UsageError(
        f"{target.name} cannot be used with invoke {stage}.",
        f"Its contract, {target.contract.name}, {LACKS[stage]}; "
        f"made for it: {names or 'no contract'}.",
        f"For example: invoke build {next(others, 'TARGET')}",
    )


@contextmanager
def run_once(
    kiln: Kiln,
    name: str,
    *,
    environment: str,
    modules: tuple[str, ...],
    params: Mapping[str, Any],
    inputs: Mapping[str, Path],
    timeout_s: int = 3600,
    cpus: int = 2,
    memory: int = 4_000_000_000,
    gpu: bool = False,
) -> Iterator[Outcome]:
    """Run a stage in a scratch folder that is gone after the `with` block.

    Raises:
        EnvironmentFailure: It needs a GPU, and there is none; or its environment cannot be made.
        KilnError: It failed.
    """
    if gpu:
        require_gpu(kiln.has_gpu, name)
    job = Job(
        name=name,
        environment=environment,
        stage=modules[0].rpartition(".")[2],
        modules=modules,
        params=params,
        inputs=inputs,
        sources=kiln.sources.closure(modules),
        threads=kiln.catalog.threads,
        seed=kiln.catalog.seed,
        timeout_s=timeout_s,
        cpus=cpus,
        memory=memory,
        gpu=gpu,
    )
    runner = make_runner(kiln, kiln.choose_runner([environment]))
    runner.get_ready([environment])
    scratch = kiln.store.scratch(job.stage)
    try:
        with console.open_board() as board:
            board.start(name)
            try:
                outcome = runner.run(
                    job, scratch, lambda share, text: board.update(name, share, text)
                )
            except KeyboardInterrupt:
                runner.stop(kill=True)
                raise
            board.end(name, f"done   {name}  {outcome.seconds:.1f} s")
        yield outcome
    finally:
        if kiln.options.keep_scratch:
            console.note(f"kept   {scratch}")
        else:
            kiln.store.discard(scratch)


def one_target(kiln: Kiln, text: str) -> Target:
    """The one target that a command line names.

    Raises:
        UsageError: it names several.
    """
    targets = kiln.targets(text)
    if len(targets) > 1:
        raise UsageError(
            f"{text!r} names {len(targets)} targets.",
            "This command takes one.",
            f"For example: {targets[0].name}",
        )
    return targets[0]
