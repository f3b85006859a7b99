"""Running a stage once, outside of any plan: nothing of it is recorded."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import open_runner
from modelkiln.catalog.lineage import find_source
from modelkiln.catalog.target import Target
from modelkiln.errors import Interrupted, UsageError
from modelkiln.runners.base import Runner
from modelkiln.runners.job import Job, Outcome
from modelkiln.util import console
from modelkiln.util.console import OnProgress
from modelkiln.util.machine import require_gpu
from modelkiln.util.signals import Inbox


def stage_modules(kiln: Kiln, target: Target, use: str) -> tuple[str, str]:
    """Return the modules of a stage that a target's graphs can be used with.

    Raises:
        UsageError: Its contract is not made for that.
    """
    if target.format.files:
        source = find_source(kiln.catalog, target)
        raise UsageError(
            f"{target.name} cannot be used with invoke {use}.",
            f"invoke {use} runs ONNX graphs with ONNX Runtime, and these files are for "
            f"{', '.join(target.format.runtimes)}.",
            f"Use the graphs that they are made from: {source.name if source else 'onnx-*'}",
        )
    if use in target.contract.uses:
        return f"exporters.stages.{use}", f"{target.contract.provider}.{use}"
    able = [one for one in kiln.catalog.contracts.values() if use in one.uses]
    others = (
        f"{model}/{one.name}/{one.formats[0]}"
        for model in (target.model.name, *kiln.catalog.models)
        for one in able
        if model in one.models
    )
    names = ", ".join(dict.fromkeys(one.name for one in able))
    uses = " and ".join(f"invoke {one}" for one in target.contract.uses) or "no such command"
    raise UsageError(
        f"{target.name} cannot be used with invoke {use}.",
        f"Its contract, {target.contract.name}, is for {uses}; "
        f"made for invoke {use}: {names or 'no contract'}.",
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
        require_gpu(bool(kiln.gpu), name)
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
    runner = open_runner(kiln, [environment])
    runner.get_ready([environment])
    scratch = kiln.store.scratch(job.stage)
    try:
        with console.open_board() as board:
            board.start(name)
            outcome = _run_alone(
                runner, job, scratch, lambda share, text: board.update(name, share, text)
            )
            board.end(name, f"done   {name}  {outcome.seconds:.1f} s")
        yield outcome
    finally:
        if kiln.options.keep_scratch:
            console.note(f"kept   {scratch}")
        else:
            kiln.store.discard(scratch)


def _run_alone(runner: Runner, job: Job, scratch: Path, on_progress: OnProgress) -> Outcome:
    inbox: Inbox[Outcome | BaseException] = Inbox()

    def work() -> None:
        try:
            inbox.put(runner.run(job, scratch, on_progress))
        except BaseException as error:
            inbox.put(error)

    with inbox.open():
        threading.Thread(target=work, daemon=True).start()
        stopping = False
        while (result := inbox.take()) is None:
            # The first signal asks the stage to end, the next one ends it.
            runner.stop(kill=stopping)
            stopping = True
    if isinstance(result, BaseException):
        raise result
    if stopping:
        raise Interrupted(f"{job.name}: stopped.")
    return result
