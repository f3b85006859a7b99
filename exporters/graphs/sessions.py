"""Graphs in onnxruntime with a fixed number of threads, on the CPU unless asked otherwise."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from exporters.graphs.external_data import bring_beside
from exporters.protocol import StageError

Tensors = dict[str, NDArray[Any]]

ERRORS_ALONE: Final = 3
CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
DEFAULTS: Final[Mapping[str, str]] = {}

_WARNINGS: Final = 2
_KERNEL_TIME: Final = "_kernel_time"


class RuntimeFailure(Exception):
    """What onnxruntime says when it cannot load or run a graph; each status has its own class."""


class Session:
    """One graph, loaded with the data file beside it if it has one.

    Attributes:
        load_seconds: How long loading took.
        run_seconds: How long each run took.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        log_level: int = _WARNINGS,
        config: Mapping[str, str] = DEFAULTS,
        provider: str = CPU,
        profile: Path | None = None,
    ) -> None:
        """Load a graph.

        Args:
            path: The .onnx file.
            threads: How many threads onnxruntime may use.
            log_level: What onnxruntime writes to the log; 2 is warnings and worse.
            config: onnxruntime's session config entries, as a contract's `session` has them.
            provider: The execution provider that must be active; what it lacks runs on the CPU.
            profile: A folder for a profile of all that runs, which `end_profile` completes.

        Raises:
            RuntimeFailure: onnxruntime cannot create a session, or not with this provider.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = log_level
        # Inputs of many sizes, as growing memory banks are, would each leave their share of
        # memory behind: gigabytes.
        options.enable_cpu_mem_arena = False
        for key, value in config.items():
            options.add_session_config_entry(key, value)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile / "profile")
        if provider == CUDA and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        self.run_seconds: list[float] = []
        started = time.perf_counter()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                _find_place(path), options, providers=list(dict.fromkeys((provider, CPU)))
            )
        except Exception as error:
            raise _tell(error) from error
        self.load_seconds = time.perf_counter() - started
        # A provider whose libraries are missing is left out with no more than a warning.
        active = self._session.get_providers()
        if active[0] != provider:
            raise RuntimeFailure(
                f"{provider} was asked for, and {active[0]} is what is active: its libraries are "
                "missing, or are of another version."
            )

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs that the graph takes."""
        return [value.name for value in self._session.get_inputs()]

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> Tensors:
        """Run the graph: inputs by name to outputs by name, all of them or those that are named.

        Raises:
            RuntimeFailure: It failed.
        """
        started = time.perf_counter()
        names = outputs or [value.name for value in self._session.get_outputs()]
        try:
            values = self._session.run(names, dict(inputs))
        except Exception as error:
            raise _tell(error) from error
        self.run_seconds.append(time.perf_counter() - started)
        return dict(zip(names, values, strict=True))

    def end_profile(self) -> Path:
        """End the profile that was asked for; return its file."""
        return Path(self._session.end_profiling())


def _find_place(path: Path) -> Path:
    """Return the graph's own path, or another where its data file is no link out of the folder.

    From 1.23 on, onnxruntime refuses a data file whose real path is elsewhere, as inputs that are
    links into a store have it.
    """
    data = path.with_name(f"{path.name}.data")
    if not data.is_symlink():
        return path
    folder = Path(tempfile.mkdtemp())
    bring_beside([path, data], folder)
    return folder / path.name


def run_kernels(
    path: Path,
    threads: int,
    inputs: Mapping[str, NDArray[Any]],
    config: Mapping[str, str] = DEFAULTS,
) -> list[tuple[str, str]]:
    """Run a graph once on the CPU under onnxruntime's profiler, whose file is gone afterwards.

    Returns:
        The operator and the node's name of every kernel that ran, in order.

    Raises:
        RuntimeFailure: The graph cannot be loaded or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = Session(path, threads, ERRORS_ALONE, config, profile=Path(folder))
        session.run(inputs)
        events = json.loads(session.end_profile().read_text(encoding="utf-8"))
    return [
        (event["args"]["op_name"], event["name"].removesuffix(_KERNEL_TIME))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_TIME)
    ]


class Sessions:
    """A session for each graph, for stages that serve a user rather than a check.

    Attributes:
        load_seconds: How long loading all of them took.
        run_seconds: How long each run of each graph took.
    """

    def __init__(
        self, files: Mapping[str, Path], threads: int, config: Mapping[str, str] = DEFAULTS
    ) -> None:
        """Load graphs.

        Args:
            files: The .onnx files by the graphs' names.
            threads: How many threads onnxruntime may use.
            config: onnxruntime's session config entries, as a contract's `session` has them.

        Raises:
            StageError: onnxruntime cannot create a session.
        """
        self._sessions = {name: _load(path, threads, config) for name, path in files.items()}
        self.load_seconds = sum(one.load_seconds for one in self._sessions.values())
        self.run_seconds = {name: one.run_seconds for name, one in self._sessions.items()}

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Run a graph: inputs by name to outputs by name.

        Raises:
            StageError: The graph failed, or an output holds an infinity or no number.
        """
        try:
            outputs = self._sessions[graph].run(inputs)
        except RuntimeFailure as failure:
            raise StageError(
                f"The {graph} failed while it ran.",
                str(failure)[:500],
                "Verify the target; if it verifies, report this with the picture and the prompts.",
            ) from failure
        for output, value in outputs.items():
            if not np.isfinite(value).all():
                raise StageError(
                    f"The {graph}'s output {output} holds NaN or infinite values.",
                    "The weights may be damaged, or too large for this precision.",
                    "Verify the target.",
                )
        return outputs


def _tell(error: Exception) -> RuntimeFailure:
    return RuntimeFailure(f"ONNX Runtime says: {str(error).strip()}")


def _load(path: Path, threads: int, config: Mapping[str, str]) -> Session:
    try:
        return Session(path, threads, config=config)
    except RuntimeFailure as failure:
        raise StageError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name}.",
            str(failure)[:500],
            "Verify the target: its files may have been changed.",
        ) from failure
