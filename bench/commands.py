"""`invoke bench.dinov2`, `bench.engine`, `bench.export`, `bench.null`, `bench.quantize`,
`bench.runner` and `bench.tracker`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from modelkiln.errors import UsageError
from modelkiln.util import console

MODEL = "sam2.1_hiera_tiny"
TARGET = f"{MODEL}/image/onnx-fp32"
TRACKER = f"{MODEL}/tracker/onnx-fp32"
FEATURES = "dinov2_vits14/features/onnx-fp32"
ENGINES = f"{MODEL}/image/rtx-fp16"


def bench_dinov2(kiln: Kiln, *, rounds: int = 7, as_json: bool = False) -> None:
    """Measure latency and memory of DINOv2's features beside what torch.onnx.export gives and
    PyTorch, and the operators that the time goes to; the figures land in artifacts/bench/.

    Raises:
        KilnError: A side failed, the sides do not agree, or `rounds` is less than 1.
    """
    from bench import dinov2, features
    from bench.contenders import get_checkpoint, our_side, our_weights

    python = kiln.provisioner.python("export")
    with _workspace(kiln) as workspace:
        checkpoint = get_checkpoint(kiln, FEATURES, workspace / "checkpoint.pt", python=python)
        bench = dinov2.Bench(
            python=python,
            settings=kiln.catalog.models[FEATURES.partition("/")[0]].settings,
            threads=kiln.catalog.threads,
            workspace=workspace,
            rounds=rounds,
            on_progress=console.note,
        )
        report = bench.run(
            FEATURES,
            our_side(FEATURES, checkpoint),
            lambda folder: our_weights(folder, FEATURES, checkpoint),
        )
    _hand_out(kiln, report, features.write, features.table, as_json=as_json)


def bench_engine(kiln: Kiln, target: str = "", *, rounds: int = 3, as_json: bool = False) -> None:
    """Measure time, memory and size of the engines of a target beside what a short script builds
    with TensorRT's own API; the figures land in artifacts/bench/.

    The graphs that they are built from are built first where they are not there.

    Args:
        target: Whose engines; `ENGINES` where it is empty.

    Raises:
        KilnError: A side failed, the sides' engines are not the same, `rounds` is less than 1, or
            the target has no engines.
    """
    from bench import engine, engine_page, engine_sides
    from bench.process import require_rounds

    # What comes first may take minutes.
    require_rounds(rounds)
    with _workspace(kiln, parameters=True) as workspace:
        source = engine_sides.find_source_graphs(kiln, target or ENGINES)
        bench = engine.Bench(
            python=kiln.provisioner.python(source.environment),
            workspace=workspace,
            rounds=rounds,
            on_progress=console.note,
        )
        report = bench.run(source)
    _hand_out(kiln, report, engine_page.write, engine_page.table, as_json=as_json)


def bench_export(kiln: Kiln, *, rounds: int = 3, as_json: bool = False) -> None:
    """Measure time and memory from a checkpoint to simplified graphs, and the graphs' latency,
    beside samexporter's; the figures land in artifacts/bench/.

    Raises:
        KilnError: A side failed, or `rounds` is less than 1.
    """
    from bench import comparison
    from bench.contenders import get_checkpoint, get_tools, our_side, their_side
    from bench.export import compare_exporters

    python, tools = get_tools(kiln)
    with _workspace(kiln) as workspace:
        checkpoint = get_checkpoint(kiln, TARGET, workspace / "checkpoint.pt", python=python)
        report = compare_exporters(
            our_side(TARGET, checkpoint),
            their_side(MODEL, checkpoint, python=python, tools=tools),
            model=MODEL,
            python=python,
            workspace=workspace,
            rounds=rounds,
            threads=kiln.catalog.threads,
            on_progress=console.note,
        )
    _hand_out(kiln, report, comparison.write, comparison.table, as_json=as_json)


def bench_null(kiln: Kiln, *, rounds: int = 15, as_json: bool = False) -> None:
    """Measure the time of builds that have nothing to do, beside make and a bare Python start; the
    figures land in artifacts/bench/.

    The builds find every step done in a store of their own, where records have the size of real
    ones and files hold a few bytes: such a build looks at names, sizes and times, not into files.

    Raises:
        KilnError: A build failed, or `rounds` is less than 1.
    """
    from bench import null
    from bench.filled import fill_store
    from bench.process import Command
    from modelkiln.catalog.selection import all_target_names
    from modelkiln.paths import REPOSITORY

    with _workspace(kiln) as workspace:
        filled = Kiln(Options(), artifacts=workspace / "artifacts")
        every = all_target_names(filled.catalog)
        one_steps, all_steps = (
            fill_store(filled, filled.targets(names)) for names in ([TARGET], every)
        )

        def invoke(name: str, *arguments: str, ours: bool = True) -> null.Runner:
            argv = (str(Path(sys.executable).parent / "invoke"), *arguments)
            # As in a user's shell: with the bytecode of an earlier start.
            settings = {
                "MODELKILN_ARTIFACTS": str(filled.artifacts),
                "PYTHONDONTWRITEBYTECODE": "",
            }
            command = Command(argv=argv, cwd=REPOSITORY, environment=settings)
            return null.Runner(name=name, command=command, ours=ours)

        make_one, make_all = workspace / "make-one", workspace / "make-all"
        make_one.mkdir()
        make_all.mkdir()
        report = null.compare_starts(
            [
                invoke(f"build, {one_steps} steps", "build", TARGET),
                invoke(f"build-all, {all_steps} steps", "build-all"),
                null.make_runner(make_one, one_steps),
                null.make_runner(make_all, all_steps),
                invoke("invoke --version", "--version", ours=False),
                null.bare_python(Path(sys.executable), workspace),
            ],
            workspace=workspace,
            rounds=rounds,
            on_progress=console.note,
        )
    _hand_out(kiln, report, null.write, null.table, as_json=as_json)


def bench_quantize(
    kiln: Kiln, *, pictures: int = 8, rounds: int = 5, as_json: bool = False
) -> None:
    """Measure error, latency, time and memory of the INT8 encoder beside what ModelOpt's API gives
    with the settings of NVIDIA's example; the figures land in artifacts/bench/.

    Where the official checkpoint has not been fetched, the weights are random.

    Raises:
        KilnError: A side failed, or `rounds` or `pictures` is too small.
    """
    from bench import quantize, quantize_page, quantize_sides

    python = kiln.provisioner.python("quantize")
    with _workspace(kiln) as workspace:
        sides = quantize_sides.find_sides(kiln, TARGET)
        bench = quantize.Bench(
            python=python,
            threads=kiln.catalog.threads,
            workspace=workspace,
            calibration=sides.calibration,
            held_out=sides.held_out,
            preset=sides.preset,
            pictures=pictures,
            rounds=rounds,
            on_progress=console.note,
        )
        report = bench.run(TARGET, sides.graph, sides.plans, weights=sides.weights)
    _hand_out(kiln, report, quantize_page.write, quantize_page.table, as_json=as_json)


def bench_runner(kiln: Kiln, *, rounds: int = 7, as_json: bool = False) -> None:
    """Measure the time of a stage in a container beside the same stage without one, and of builds
    that have nothing to do under each runner; the figures land in artifacts/bench/.

    Raises:
        KilnError: There is no engine, a stage failed, or `rounds` is less than 1.
    """
    from bench import null, runner
    from bench.filled import fill_store
    from bench.process import Command
    from modelkiln.containers.engine import connect
    from modelkiln.paths import REPOSITORY
    from modelkiln.runners.choice import RUNNERS

    engine = connect()
    local, docker = (
        RUNNERS[name].offer(kiln.provisioner, (), asked=True).make() for name in ("local", "docker")
    )
    ingest = runner.make_ingest_job(kiln, TARGET.replace(MODEL, f"{MODEL}+random0"))
    for one in (local, docker):
        one.get_ready([ingest.environment])
    with _workspace(kiln) as workspace, runner.counted_engine() as (host, calls):

        def build(name: str) -> null.Runner:
            filled = Kiln(Options(runner=name), artifacts=workspace / name)
            fill_store(filled, filled.targets(TARGET))
            settings = {
                "MODELKILN_ARTIFACTS": str(filled.artifacts),
                "PYTHONDONTWRITEBYTECODE": "",
                "DOCKER_HOST": host,
            }
            invoke = str(Path(sys.executable).parent / "invoke")
            argv = (invoke, "build", TARGET, "--runner", name)
            return null.Runner(
                name=f"nothing to do, --runner {name}",
                command=Command(argv=argv, cwd=REPOSITORY, environment=settings),
                ours=True,
            )

        builds = [build("local"), build("docker")]
        costs = runner.compare_runners(
            local,
            docker,
            [runner.make_empty_job(kiln, ingest.environment), ingest],
            scratch=lambda: kiln.store.scratch("bench"),
            discard=kiln.store.discard,
            rounds=rounds,
            on_progress=console.note,
        )
        nothing = null.compare_starts(
            builds, workspace=workspace, rounds=rounds, on_progress=console.note
        )
        report = runner.make_report(rounds, str(engine), costs, nothing, len(calls))
    _hand_out(kiln, report, runner.write, runner.table, as_json=as_json)


def bench_tracker(kiln: Kiln, *, rounds: int = 5, as_json: bool = False) -> None:
    """Measure time and memory of the tracker's memory attention beside the public exporter's way
    and PyTorch, and of the export of all four graphs; the figures land in artifacts/bench/.

    Raises:
        KilnError: A side failed, the sides do not agree, or `rounds` is less than 1.
    """
    from bench import attention, tracker
    from bench.contenders import get_checkpoint, our_side, our_weights

    python = kiln.provisioner.python("export")
    settings = kiln.catalog.models[MODEL].settings
    with _workspace(kiln) as workspace:
        checkpoint = get_checkpoint(kiln, TRACKER, workspace / "checkpoint.pt", python=python)
        bench = tracker.Bench(
            python=python,
            config=settings["config"],
            overrides=settings["overrides"],
            threads=kiln.catalog.threads,
            workspace=workspace,
            rounds=rounds,
            on_progress=console.note,
        )
        report = bench.run(
            MODEL,
            our_side(TRACKER, checkpoint),
            lambda folder: our_weights(folder, TRACKER, checkpoint),
        )
    _hand_out(kiln, report, attention.write, attention.table, as_json=as_json)


class _Report(Protocol):
    def document(self) -> dict[str, object]: ...


_AnyReport = TypeVar("_AnyReport", bound=_Report)


def _hand_out(
    kiln: Kiln,
    report: _AnyReport,
    write: Callable[[_AnyReport, Path], tuple[Path, Path]],
    table: Callable[[_AnyReport], tuple[Sequence[str], Sequence[Sequence[str]]]],
    *,
    as_json: bool,
) -> None:
    """Write a report's files into artifacts/bench/, and print it."""
    data, page = write(report, kiln.artifacts / "bench")
    if as_json:
        console.say_json(report.document())
    else:
        console.say_table(*table(report))
        console.say(f"\n{data}\n{page}")


@contextmanager
def _workspace(kiln: Kiln, *, parameters: bool = False) -> Iterator[Path]:
    """Give an empty folder; refuse parameters unless the bench takes a target of the user's."""
    if kiln.options.parameters and not parameters:
        raise UsageError(
            f"A bench takes no {', '.join(f'--{name}' for name in kiln.options.parameters)}.",
            "Its figures are those of the default target.",
            "Leave it out.",
        )
    # On the disk of the artifacts: /tmp may be memory, and a bench measures memory.
    folder = kiln.store.scratch("bench")
    try:
        yield folder
    finally:
        kiln.store.discard(folder)
