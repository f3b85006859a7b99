"""A shrunken SAM 2.1 tiny, taken through every stage once for all tests."""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Of small networks a second thread does little but wait, and burns a core at that. Read once, when
# a library is loaded, and handed on to what is started from here.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.exporters.dinov2.models import Dinov2s
from tests.exporters.sam2.tracker.models import Trackers
from tests.exporters.shrunken import ARCHITECTURE, PATCHES, ROOT, UPSTREAM, Done, run_stage, shrink


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a fresh folder for a step."""
    root = tmp_path_factory.mktemp("steps")
    counter = iter(range(1_000_000))
    return lambda stage: root / f"{next(counter)}-{stage}"


@pytest.fixture(scope="session")
def weights(scratch: Callable[[str], Path]) -> Path:
    """Random weights of the shrunken architecture."""
    params = {**ARCHITECTURE, "source": {"kind": "random", "seed": 0}, "upstream": UPSTREAM}
    modules = ["exporters.stages.ingest", "exporters.sam2.ingest"]
    return run_stage(scratch("ingest"), "ingest", modules, params, {})["weights.safetensors"]


@pytest.fixture(scope="session")
def reference(scratch: Callable[[str], Path], weights: Path) -> Done:
    """What unpatched upstream makes of them."""
    pictures = {
        f"pictures/{name}": ROOT / "catalog/pictures" / name for name in shrink("image")["pictures"]
    }
    return run_stage(
        scratch("reference"),
        "reference",
        ["exporters.stages.reference", "exporters.sam2.image.reference"],
        {**ARCHITECTURE, "upstream": UPSTREAM},
        {"weights.safetensors": weights, **pictures},
    )


@pytest.fixture(scope="session")
def few_cases(scratch: Callable[[str], Path], reference: Done) -> Path:
    """The reference's cases of one photograph and noise, a few prompts each."""
    document = json.loads(reference["cases.json"].read_text(encoding="utf-8"))
    document["pictures"] = [
        {**picture, "prompts": picture["prompts"][::4]}
        for picture in document["pictures"]
        if picture["name"] in ("astronaut.jpg", "noise")
    ]
    path = scratch("few.json")
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


Export = Callable[..., Done]


@pytest.fixture(scope="session")
def export(scratch: Callable[[str], Path], weights: Path) -> Export:
    """Exports a contract; `provider`, `patches` and parameters may be other than usual."""

    def run(
        contract: str = "image",
        opset: int = 18,
        provider: str = "exporters.sam2.image.export",
        patches: dict[str, Path] = PATCHES,
        **params: Any,
    ) -> Done:
        golden = shrink(contract)
        given = {
            **ARCHITECTURE,
            "contract": golden["name"],
            "options": golden["options"],
            "opset": opset,
            "graphs": golden["graphs"],
            "upstream": UPSTREAM,
            **params,
        }
        inputs = {"weights.safetensors": weights, **patches}
        modules = ["exporters.stages.export", provider]
        return run_stage(scratch("export"), "export", modules, given, inputs)

    return run


@pytest.fixture(scope="session")
def exported(export: Export) -> Callable[..., Done]:
    """Exports made once for each contract and opset."""

    @cache
    def once(contract: str = "image", opset: int = 18) -> Done:
        return export(contract, opset)

    return once


@pytest.fixture(scope="session")
def convert(scratch: Callable[[str], Path]) -> Callable[..., Done]:
    """Converts an export."""

    def run(
        traced: Done, contract: str = "image", opset: int = 18, simplifier: str = "onnxsim"
    ) -> Done:
        graphs = shrink(contract)["graphs"]
        params = {
            "simplifier": simplifier,
            "opset": opset,
            "graphs": graphs,
            "metadata": {"model": "shrunken", "license": "Apache-2.0"},
        }
        inputs = {graph["file"]: traced[graph["file"]] for graph in graphs}
        return run_stage(
            scratch("convert"), "convert", ["exporters.stages.convert"], params, inputs
        )

    return run


@pytest.fixture(scope="session")
def converted(exported: Callable[..., Done], convert: Callable[..., Done]) -> Callable[..., Done]:
    """Conversions made once for each contract, opset and simplifier."""

    @cache
    def once(contract: str = "image", opset: int = 18, simplifier: str = "onnxsim") -> Done:
        return convert(exported(contract, opset), contract, opset, simplifier)

    return once


@pytest.fixture(scope="session")
def verify(scratch: Callable[[str], Path], reference: Done, few_cases: Path) -> Callable[..., Done]:
    """Verifies graphs; `quick` takes a few cases only, `golden` is another contract than usual."""

    def run(
        files: dict[str, Path],
        contract: str = "image",
        opset: int = 18,
        quick: bool = False,
        golden: dict[str, Any] | None = None,
    ) -> Done:
        inputs = {
            **files,
            "cases.json": few_cases if quick else reference["cases.json"],
            "tensors.safetensors": reference["tensors.safetensors"],
        }
        modules = ["exporters.stages.verify", "exporters.sam2.image.verify"]
        params = {"contract": golden or shrink(contract), "opset": opset}
        return run_stage(scratch("verify"), "verify", modules, params, inputs)

    return run


@pytest.fixture(scope="session")
def verified(converted: Callable[..., Done], verify: Callable[..., Done]) -> Callable[..., Done]:
    """Verifications of conversions, made once for each contract."""

    @cache
    def once(contract: str = "image") -> Done:
        done = converted(contract)
        return verify(
            {one["file"]: done[one["file"]] for one in shrink(contract)["graphs"]}, contract
        )

    return once


@pytest.fixture(scope="session")
def trackers(scratch: Callable[[str], Path]) -> Trackers:
    """Shrunken trackers of both generations."""
    return Trackers(scratch)


@pytest.fixture(scope="session")
def dinov2s(scratch: Callable[[str], Path]) -> Dinov2s:
    """Shrunken DINOv2 models."""
    return Dinov2s(scratch)


# What takes long comes first, so that what is short fills up the time at the end.
LONGEST = (
    "tracker",
    "image",
    "tracker of SAM 2.0",
    "dinov2",
    "tests/exporters/sam2/tracker/test_tracker.py",
    "tests/bench/sides/test_attention.py",
    "tests/bench/sides/test_features.py",
)
OF_TRACKER = (
    "test_calibrate.py",
    "test_export.py",
    "test_loop.py",
    "test_reference.py",
    "test_reference_memory.py",
    "test_verify.py",
)
OF_IMAGE = (
    "test_convert.py",
    "test_export.py",
    "test_external_data.py",
    "test_structure.py",
    "test_upstream.py",
)


class ByModel(LoadScopeScheduling):  # type: ignore[misc]
    """Where workers run tests at once, those that share a model stay together: it is made once.

    Of all others a file stays together.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        *folders, name = file.split("/")
        if "tracker" in folders and name in OF_TRACKER:
            return "tracker of SAM 2.0" if "sam2.0" in test else "tracker"
        if "dinov2" in folders:
            return "dinov2"
        if "image" in folders or ("tracker" not in folders and name in OF_IMAGE):
            return "image"
        return file

    def _assign_work_unit(self, node: Any) -> None:
        for group in reversed(LONGEST):
            if group in self.workqueue:
                self.workqueue.move_to_end(group, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModel:
    """Schedule them so, whatever --dist says."""
    return ByModel(config, log)
