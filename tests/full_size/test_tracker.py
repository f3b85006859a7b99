"""SAM 2.1 tiny's tracker at full size: every gate, and a video followed as a user would.

`make test` takes shrunken trackers of every contract; this is for those who have five minutes more:
`invoke test --only thorough`, which continuous integration runs.
"""

import json
import subprocess
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.environments.cache import find
from modelkiln.paths import artifacts_root
from modelkiln.util.hashing import sha256_file
from tests.full_size.test_tiny import MODEL, PHOTOGRAPH, TARGET, invoke

pytestmark = [pytest.mark.full_size, pytest.mark.thorough]

TINY = "sam2.1_hiera_tiny"
CONTRACT = "tracker"

# A random network judges hardly by what it sees whether an object is there. Its judgements are
# made ten times as firm about the value that they lie around, so that it sees some and not others.
CHECKPOINT = """
import sys
import numpy as np
from safetensors.numpy import load_file, save_file

tensors = load_file(sys.argv[1])
layer = "sam_mask_decoder.pred_obj_score_head.layers.2"
tensors[f"{layer}.bias"] = (tensors[f"{layer}.bias"] - np.float32(0.71)) * np.float32(-10)
tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"] * np.float32(-10)
save_file(tensors, sys.argv[2])
"""

FRAMES = """
import sys
from pathlib import Path
from PIL import Image

photograph = Image.open(sys.argv[1])
for number in range(3):
    frame = photograph.crop((10 * number, 0, 10 * number + 400, 300))
    frame.save(Path(sys.argv[2]) / f"{number}.png")
"""


def in_export(script: str, *arguments: object) -> None:
    kiln = Kiln()
    python = find(kiln.provisioner.environment("export"), kiln.cache)
    assert python is not None
    subprocess.run([python, "-c", script, *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that see an object on some frames and not on others."""
    done = invoke("build", TARGET, "--until", "ingest")
    assert done.returncode == 0, done.stderr
    store = Kiln().store
    step = store.latest(f"{MODEL}/ingest")
    assert step is not None
    drawn = store.blob_path(step.outputs["weights.safetensors"].sha256)
    path = tmp_path_factory.mktemp("weights") / "seeing.safetensors"
    in_export(CHECKPOINT, drawn, path)
    return path


@pytest.fixture(scope="module")
def built(checkpoint: Path) -> Path:
    """The folder of the tracker that is built from that checkpoint."""
    done = invoke("build", f"{TINY}/{CONTRACT}/onnx-fp32", "--weights", str(checkpoint))
    assert done.returncode == 0, done.stderr
    model = f"{TINY}+{sha256_file(checkpoint)[:12]}"
    return artifacts_root() / "out" / model / CONTRACT / "onnx-fp32"


def test_the_tracker_agrees_with_upstream_frame_after_frame(built: Path) -> None:
    document = json.loads((built / "verification.json").read_text())
    assert all(one["relative"] <= 1e-5 for one in document["summary"]["worst"].values())
    loop = document["summary"]["loop"]
    assert loop["frames"] == 8
    assert loop["objects"] >= 2
    assert 0 < loop["seen"] < loop["steps"]
    assert loop["counted"] >= 0.8 * loop["seen"]
    assert loop["lowest_iou"] >= 0.999
    assert loop["lowest_pointer_cosine"] >= 0.9999
    cases = {one["case"] for one in document["tensors"] if one["graph"] == "memory_attention"}
    for frames in (1, 2, 7):
        assert any(case.startswith(f"{frames} frames, ") for case in cases)
    for size in ("1 pointers", "16 pointers", "batch 1", "batch 3"):
        assert any(size in case for case in cases)
    assert (built / "memory_attention.onnx").stat().st_size <= 29_000_000


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of a photograph that moves."""
    folder = tmp_path_factory.mktemp("video")
    in_export(FRAMES, PHOTOGRAPH, folder)
    return folder


def test_a_video_is_followed_and_drawn(
    built: Path, checkpoint: Path, video: Path, tmp_path: Path
) -> None:
    prompts = ("--box", "20,15,362,290", "--point", "120,100@1")
    done = invoke(
        "track",
        f"{TINY}/{CONTRACT}/onnx-fp32",
        str(video),
        *prompts,
        *("--weights", str(checkpoint), "--json"),
        *("--out", str(tmp_path / "drawn.mp4"), "--masks", str(tmp_path / "masks")),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["tracks"]
    steps = {(one["object"], one["frame"]) for one in found}
    assert steps == {(1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}
    assert (tmp_path / "drawn.mp4").read_bytes()[4:8] == b"ftyp"
    masks = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert masks == ["00000.png", "00001.png", "00002.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--box", "1,1,900,2"), "lie within the picture"),
        (("--box", "1,1,90,20@7"), "frame 7"),
        (tuple(x for n in range(21) for x in ("--box", f"{n},1,90,20")), "20"),
    ],
)
def test_a_wrong_prompt_is_told_before_anything_runs(
    built: Path,
    checkpoint: Path,
    video: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    target, out = f"{TINY}/{CONTRACT}/onnx-fp32", tmp_path / "drawn.mp4"
    given = (target, str(video), *arguments, "--weights", str(checkpoint), "--out", str(out))
    done = invoke("track", *given)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not out.exists()


def test_a_contract_that_cannot_track_is_told(video: Path) -> None:
    done = invoke("track", TARGET, str(video), "--box", "1,1,90,20")
    assert done.returncode == 2
    assert "cannot be used with invoke track" in done.stderr
    assert CONTRACT in done.stderr
