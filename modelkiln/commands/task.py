"""How a task is made: shared flags, one kiln, and errors turned into exit codes.

The parameters of contracts and formats are flags too, whatever catalog folder they come from.
"""

import errno
import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from invoke.exceptions import Exit
from invoke.tasks import Task, task

from modelkiln.building import unchanged
from modelkiln.catalog.flags import read_flags
from modelkiln.errors import Interrupted, KilnError, OutOfSpace, UsageError
from modelkiln.runners import AUTO, NAMES
from modelkiln.util import console
from modelkiln.util.signals import handled, interrupt

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln
    from modelkiln.building.options import Options

HELP = {
    "targets": "targets and globs, separated by commas: MODEL/CONTRACT/FORMAT",
    "target": "one target: MODEL/CONTRACT/FORMAT",
    "weights": "official (default), random[:SEED], or the path of a checkpoint of your own",
    "trust": "open a pickle of your own, which may run its code; safetensors need no trust",
    "runner": f"{AUTO} (default), {' or '.join(NAMES)}",
    "jobs": "steps at once (default: as many as CPUs and memory take)",
    "keep_going": "go on with what does not depend on a failed step",
    "dry_run": "say what would be done, and do nothing",
    "offline": "fetch nothing",
    "json": "print the result as JSON",
    "mirror": "URL prefix or folder that holds the checkpoints; may be repeated",
    "set": "a parameter of the contract or the format, NAME=VALUE; may be repeated",
    "calibration": "short for --image-dir",
    "keep_scratch": "keep the scratch folders of the stages that run",
}
FLAGS: dict[str, Any] = {
    "weights": "official",
    "trust": False,
    "runner": AUTO,
    "jobs": 0,
    "keep_going": False,
    "offline": False,
    "mirror": [],
    "set": [],
    "calibration": "",
    "keep_scratch": False,
    "dry_run": False,
    "json": False,
}
# A parameter whose name is taken is given with --set.
PARAMETERS = {name: text for name, text in read_flags().items() if name not in FLAGS}
FLAGS |= dict.fromkeys(PARAMETERS, "")
# Flags that mean something only where there are targets.
OF_TARGETS = frozenset({*PARAMETERS, "calibration", "set"})


def command(
    name: str = "",
    *,
    iterable: Sequence[str] = (),
    help: dict[str, str] | None = None,  # noqa: A002
    remembered: bool = False,
    anywhere: bool = False,
    parameters: bool | None = None,
) -> Callable[[Callable[..., None]], "Task[Any]"]:
    """Return a task whose body takes a Kiln first; the shared flags are added to its own arguments.

    Args:
        name: The task's name where it is not the function's.
        iterable: Own arguments that may be repeated.
        help: What the own arguments mean, where HELP does not say it.
        remembered: Whether its answer may be taken from the last time, see `unchanged`.
        anywhere: Whether it also runs where modelkiln is not supported.
        parameters: Whether the parameters of contracts and formats are flags of it; those of a
            task that takes targets are, unless this says otherwise.
    """

    def decorate(body: Callable[..., None]) -> "Task[Any]":
        own = list(inspect.signature(body).parameters.values())[1:]
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        names = {one.name for one in own}
        takes = bool({"target", "targets"} & names) if parameters is None else parameters
        shared = [
            inspect.Parameter(n, keyword, default=v)
            for n, v in FLAGS.items()
            if n not in names and (takes or n not in OF_TARGETS)
        ]
        context = inspect.Parameter("context", keyword)

        def run(_: Any, *given: Any, **values: Any) -> None:
            _run(body, own, given, values, remembered=remembered, anywhere=anywhere)

        run.__signature__ = inspect.Signature([context, *own, *shared])  # type: ignore[attr-defined]
        run.__doc__, run.__name__ = body.__doc__, body.__name__
        names |= {one.name for one in shared}
        texts = {**PARAMETERS, **HELP, **(help or {})}
        texts = {name: text for name, text in texts.items() if name in names}
        made: Task[Any] = task(
            name=name or body.__name__.rstrip("_").replace("_", "-"),
            help=texts,
            iterable=[*iterable, *(one for one in ("mirror", "set") if one in names)],
            auto_shortflags=False,
            positional=[one.name for one in own if one.default is inspect.Parameter.empty],
        )(run)
        return made

    return decorate


def options_of(values: dict[str, Any]) -> "Options":
    """Return what the shared flags say."""
    from modelkiln.building.options import Options

    parameters: dict[str, str | int] = {}
    for pair in values["set"] or ():
        name, _, value = pair.partition("=")
        parameters[name] = value
    for name in PARAMETERS:
        if values[name]:
            parameters[name] = values[name]
    if folder := choose_folder(str(parameters.get("image_dir", "")), values["calibration"]):
        parameters["image_dir"] = folder
    return Options(
        weights=values["weights"],
        trust=values["trust"],
        runner=values["runner"],
        jobs=values["jobs"],
        keep_going=values["keep_going"],
        offline=values["offline"],
        mirrors=tuple(values["mirror"] or os.environ.get("MODELKILN_MIRROR", "").split()),
        keep_scratch=values["keep_scratch"],
        parameters=parameters,
    )


def choose_folder(image_dir: str, calibration: str) -> str:
    """Return what `--image-dir` and its short name say; UsageError where they say different
    things.
    """
    if image_dir and calibration and image_dir != calibration:
        raise UsageError(
            "--calibration and --image-dir name different folders.",
            "They are one option under two names.",
            "Leave one of them out.",
        )
    return image_dir or calibration


def _run(
    body: Callable[..., None],
    own: Sequence[inspect.Parameter],
    given: tuple[Any, ...],
    values: dict[str, Any],
    *,
    remembered: bool,
    anywhere: bool,
) -> None:
    values = {**{one.name: value for one, value in zip(own, given, strict=False)}, **values}
    question = unchanged.ask(body.__name__, values) if remembered else ""
    with handled(interrupt):
        _run_told(body, own, values, question, anywhere=anywhere)


def _run_told(
    body: Callable[..., None],
    own: Sequence[inspect.Parameter],
    values: dict[str, Any],
    question: str,
    *,
    anywhere: bool,
) -> None:
    try:
        if question and (said := unchanged.recall(question)) is not None:
            console.say(said)
            return
        # Imported late: most of a build with nothing to do would be the time that they take.
        from modelkiln.building.kiln import Kiln
        from modelkiln.util.machine import check_platform

        if not anywhere:
            check_platform()
        taken = {one.name: values[one.name] for one in own}
        shared = {name: value for name, value in values.items() if name not in taken}
        kiln = Kiln(options_of({**FLAGS, **shared}), question=question)
        if values["dry_run"] and "dry_run" not in taken:
            _rehearse(kiln, body.__name__, taken)
        else:
            body(kiln, **taken)
    except KilnError as error:
        _exit(error)
    except KeyboardInterrupt:
        _exit(Interrupted("Stopped.", "You interrupted the command.", "Run it again to go on."))
    except MemoryError:
        _exit(OutOfSpace("Memory ran out.", "Other programs take it.", "Try --jobs 1."))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            next_ = "invoke store.gc and invoke env.prune free some."
            _exit(OutOfSpace(f"The disk is full: {error}.", "There is no room left.", next_))
        if not error.filename:
            raise
        _exit(
            UsageError(
                f"{error.filename} cannot be used: {error.strerror}.",
                "The path is wrong, or it may not be read or written.",
                "Correct the path or its owner and mode.",
            )
        )


def _rehearse(kiln: "Kiln", task_name: str, values: dict[str, Any]) -> None:
    """Say what a task without a plan of its own would do, after a look at its targets."""
    named = values.get("targets") or values.get("target")
    targets = [one.name for one in kiln.targets(named)] if named else []
    given = {name: value for name, value in values.items() if value and name != "targets"}
    if targets:
        given["targets"] = targets
    if values.get("json"):
        console.say_json({"task": task_name, "would_use": given})
    else:
        console.say(f"would run {task_name} with {given or 'its defaults'}; nothing was done")


def _exit(error: KilnError) -> NoReturn:
    raise Exit(message=f"error: {error}", code=error.exit_code)
