"""The tracker contracts' part of `verify`: four graphs, and a video that they follow together."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exporters.checks.parity import Check, TensorCheck, compare_steps, compare_tensors
from exporters.checks.reference import Arrays, Reference, Run
from exporters.media.pictures import masks_to_picture, normalize
from exporters.protocol import report_progress
from exporters.sam2.tracker.calls import Mask
from exporters.sam2.tracker.script import from_json, plain_objects
from exporters.sam2.tracker.slots import is_static, serve_slots
from exporters.sam2.tracker.tracker import Tracker

Floats = NDArray[np.float32]

BATCH: Final = 4
HARMLESS: Final = (float("nan"), 1e9)

_ENCODED: Final = {
    "high_res_feat0": "high_res_feats_0",
    "high_res_feat1": "high_res_feats_1",
    "vision_feats": "image_embed",
}


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compare all outputs of all graphs by themselves, then what they make of a video.

    Each graph is given upstream's tensors, so that a fault shows where it is; graphs that the
    reference calls untouched are left out of that. In the video, which
    `exporters.sam2.tracker.tracker` follows, every graph lives on what the others made. The
    video of the contract with the second sigmoid is left out: upstream has no such model.
    """
    checker = _Checker(run, contract, reference)
    alone = {
        "image_encoder": (0.15, checker.check_image_encoder),
        "mask_decoder": (0.25, checker.check_mask_decoder),
        "memory_encoder": (0.35, checker.check_memory_encoder),
        "memory_attention": (0.4, checker.check_memory_attention),
    }
    for graph, (progress, compare) in alone.items():
        if graph not in reference.untouched:
            report_progress(progress, f"comparing {graph}")
            yield from compare()
    if is_static(contract) and "memory_attention" not in reference.untouched:
        yield from checker.check_slots()
    if not contract["options"]["double_sigmoid"]:
        yield from checker.check_loop()


class _Checker:
    """The contract's side of every comparison: which inputs a graph takes, and in which form."""

    def __init__(self, run: Run, contract: Mapping[str, Any], reference: Reference) -> None:
        self._static = is_static(contract)
        self._run = serve_slots(run) if self._static else run
        self._run_alone = run
        self._reference = reference
        self._document = reference.document
        self._tolerances = contract["tolerances"]
        self._photographs = frozenset(contract["pictures"])
        self._inert: Mapping[str, Sequence[str]] = contract.get("inert", {})
        self._extended = bool(contract["options"]["extended"])
        self._legacy = bool(contract["options"]["double_sigmoid"])
        self._outputs = {
            graph["name"]: [value["name"] for value in graph["outputs"]]
            for graph in contract["graphs"]
        }

    def check_image_encoder(self) -> Iterator[Check]:
        """Check the features of every picture."""
        for picture in self._document["pictures"]:
            inputs = {"image": normalize(self._reference[f"{picture}/picture"])}
            expected = {
                name: self._reference[f"{picture}/{_ENCODED.get(name, name)}"]
                for name in self._outputs["image_encoder"]
                if name != "vision_pos_embed"
            }
            if not self._extended:
                expected["vision_pos_embed"] = self._reference["positions"]
            yield from self._compare("image_encoder", picture, picture, inputs, expected)

    def check_mask_decoder(self) -> Iterator[Check]:
        """Check prompts of every kind, by the contract's rule for choosing a mask."""
        kind = "rule" if self._extended else "best"
        for case in self._document["decoder"]:
            if case["masks"] and not self._extended:
                continue
            prefix, picture = f"decoder/{case['name']}", case["picture"]
            names = ("point_coords", "point_labels", "image_embed", "mask_input", "has_mask_input")
            inputs = {name: self._reference[f"{prefix}/{name}"] for name in names}
            # An absent mask is never looked at, whatever it holds.
            inputs["mask_input"][inputs["has_mask_input"] == 0] = np.nan
            for name in ("high_res_feats_0", "high_res_feats_1"):
                inputs[name] = self._reference[f"{picture}/{name}"]
            expected = {
                name: self._reference[f"{prefix}/{kind}/{name}"]
                for name in self._outputs["mask_decoder"]
            }
            yield from self._compare("mask_decoder", case["name"], picture, inputs, expected)

    def check_memory_encoder(self) -> Iterator[Check]:
        """Check masks into memories, with and without their objects."""
        for number, case in enumerate(self._document["memory"]):
            prefix = f"memory/{case['name']}"
            names = ("pred_mask", "mask_for_mem", "is_prompted", "occ_logit")
            inputs = {name: self._reference[f"{prefix}/{name}"] for name in names}
            inputs["pix_feat"] = self._reference[f"{case['picture']}/pix_feat"]
            memory = self._reference[f"{prefix}/{'legacy' if self._legacy else 'memory_features'}"]
            if self._extended:
                expected = {"memory_features": memory}
            else:
                places = self._reference["memory_positions"]
                expected = {
                    "maskmem_features": memory,
                    "maskmem_pos_enc": np.broadcast_to(places, (len(memory), *places.shape)),
                    "temporal_code": self._reference["temporal_code"],
                }
            name, picture = case["name"], case["picture"]
            yield from self._compare("memory_encoder", name, picture, inputs, expected)
            if number == 0:
                yield from self._check_inert("memory_encoder", inputs)

    def check_memory_attention(self) -> Iterator[Check]:
        """Check banks of every size. The classic contract takes those of one conditioning frame."""
        cases = [
            case
            for case in self._document["attention"]
            if self._extended or case["conditioning"] is not None
        ]
        for number, case in enumerate(cases):
            report_progress(
                0.4 + 0.3 * number / len(cases), f"comparing memory_attention, {case['name']}"
            )
            inputs = self._extended_bank(case) if self._extended else self._classic_bank(case)
            expected = {"image_embed": self._reference[f"attention/{case['name']}/image_embed"]}
            name, picture = case["name"], case["picture"]
            yield from self._compare("memory_attention", name, picture, inputs, expected)
            if number == 0:
                yield from self._check_inert("memory_attention", inputs)

    def check_slots(self) -> Iterator[Check]:
        """Check that what an empty slot holds changes no bit, and what comes of empty slots
        alone: upstream's features for a frame without memory.
        """
        case = self._document["attention"][0]
        inputs = {
            name: value if name == "pix_feat" else value[:1]
            for name, value in self._extended_bank(case).items()
        }
        nothing = {
            name: value if name == "pix_feat" else value[:, :0] for name, value in inputs.items()
        }
        graph, picture = "memory_attention", case["picture"]
        calm = self._run(graph, inputs)
        for value in HARMLESS:
            run = serve_slots(self._run_alone, value)
            name = f"what is in empty slots has no effect at {value:g}"
            yield from self._compare_bits(graph, name, calm, run(graph, inputs))
            expected = {"image_embed": self._reference[f"{picture}/image_embed"]}
            found = run(graph, nothing)
            yield from self._judge(graph, f"nothing but {value:g}", picture, found, expected)

    def check_loop(self) -> Iterator[Check]:
        """Yield the whole tracker on the reference's video, by the very same script."""
        loop = self._document["loop"]
        frames, script = self._reference["video"], from_json(loop["script"])
        objects = {one.object for one in script} if self._extended else {*plain_objects(script)}
        if self._static:
            objects &= _once_conditioned(loop["steps"])
        script = tuple(one for one in script if one.object in objects)
        steps = {(step["object"], step["frame"]): step for step in loop["steps"]}
        tracker = Tracker(
            self._run,
            extended=self._extended,
            size=int(self._document["size"]),
            num_frames=int(loop["video_frames"]),
            fill_hole_area=0,
            batch=BATCH,
        )
        for frame in range(loop["frames"]):
            report_progress(0.7 + 0.3 * frame / loop["frames"], f"closed loop, frame {frame}")
            tracker.start_frame(frames[frame])
            masks: dict[int, Mask] = {}
            for late in (False, True):
                for one in script:
                    if (one.frame, one.late) == (frame, late):
                        masks[one.object] = tracker.prompt(one.object, one.points, one.box)
                if not late:
                    masks |= tracker.track()
            expected = {number for number, at in steps if at == frame and number in objects}
            if set(masks) != expected:
                raise AssertionError(f"frame {frame} has {sorted(masks)}, not {sorted(expected)}")
            for number, mask in sorted(masks.items()):
                yield self._compare_step(steps[number, frame], mask, frames.shape[1:3])

    def _compare_step(self, step: Mapping[str, Any], mask: Mask, size: tuple[int, ...]) -> Check:
        prefix = f"loop/{step['object']}/{step['frame']}"
        bits = np.unpackbits(self._reference[f"{prefix}/inside"], axis=-1, count=size[1])
        enlarged = masks_to_picture(mask.logits[np.newaxis], size[0], size[1])[0]
        low, high = self._tolerances["mask_coverage"]
        return compare_steps(
            (bits.astype(bool), float(step["occlusion"]), self._reference[f"{prefix}/obj_ptr"][0]),
            (np.asarray(enlarged > 0), float(mask.occlusion), mask.pointer),
            number=int(step["object"]),
            frame=int(step["frame"]),
            bounds=(float(self._tolerances["mask_iou"]), float(self._tolerances["pointer_cosine"])),
            coverage=(float(low), float(high)),
        )

    def _extended_bank(self, case: Mapping[str, Any]) -> Arrays:
        features, pointers = self._take_bank(case)
        return {
            "pix_feat": self._reference[f"{case['picture']}/pix_feat"],
            "memory_features": features,
            "frames_ago": np.array(case["frames_ago"], np.int64),
            "obj_ptrs": pointers,
            "obj_ptr_positions": np.array(case["positions"], np.float32),
        }

    def _classic_bank(self, case: Mapping[str, Any]) -> Arrays:
        """Return a bank whose memories the caller places; of the pointers' share of places
        nothing is read.
        """
        features, pointers = self._take_bank(case)
        codes = self._reference["temporal_code"][:, 0, 0]
        rows = [(ago or len(codes)) - 1 for ago in case["frames_ago"][0]]
        placed = np.concatenate([self._reference["memory_positions"] + codes[row] for row in rows])
        tail = np.full((4 * pointers.shape[1], placed.shape[1]), np.nan, np.float32)
        whole = np.concatenate([placed, tail])
        return {
            "current_vision_feat": self._reference[f"{case['picture']}/image_embed"],
            "current_vision_pos_embed": self._reference["positions"],
            "memory_0": pointers,
            "memory_1": features,
            "memory_pos_embed": np.ascontiguousarray(np.tile(whole, (len(features), 1, 1))),
            "cond_frame_id_diff": np.array(case["conditioning"], np.float32),
        }

    def _take_bank(self, case: Mapping[str, Any]) -> tuple[Floats, Floats]:
        batch, frames = len(case["frames_ago"]), len(case["frames_ago"][0])
        return (
            np.ascontiguousarray(self._reference["features"][:batch, :frames]),
            np.ascontiguousarray(self._reference["pointers"][:batch, : len(case["positions"][0])]),
        )

    def _compare(
        self,
        graph: str,
        case: str,
        picture: str,
        inputs: Arrays,
        expected: Mapping[str, NDArray[Any]],
    ) -> Iterator[TensorCheck]:
        yield from self._judge(graph, case, picture, self._run(graph, inputs), expected)

    def _judge(
        self,
        graph: str,
        case: str,
        picture: str,
        found: Arrays,
        expected: Mapping[str, NDArray[Any]],
    ) -> Iterator[TensorCheck]:
        for name in self._outputs[graph]:
            yield compare_tensors(
                expected[name],
                found[name],
                graph=graph,
                case=case,
                tensor=name,
                bound=float(self._tolerances["parity"]),
                photograph=picture in self._photographs,
            )

    def _check_inert(self, graph: str, inputs: Arrays) -> Iterator[TensorCheck]:
        """Check that, whatever an input without a use holds, the outputs are the same to the last
        bit.
        """
        for name in self._inert.get(graph, ()):
            calm = self._run(graph, {**inputs, name: np.zeros_like(inputs[name])})
            for value in HARMLESS:
                changed = {**inputs, name: np.full_like(inputs[name], value)}
                case = f"{name} has no effect at {value:g}"
                yield from self._compare_bits(graph, case, calm, self._run(graph, changed))

    def _compare_bits(
        self, graph: str, case: str, calm: Arrays, found: Arrays
    ) -> Iterable[TensorCheck]:
        for name in self._outputs[graph]:
            compared = compare_tensors(
                calm[name],
                found[name],
                graph=graph,
                case=case,
                tensor=name,
                bound=float(self._tolerances["parity"]),
            )
            same = calm[name].tobytes() == found[name].tobytes()
            yield replace(compared, ok=same, photograph=False, exact=True)


def _once_conditioned(steps: Iterable[Mapping[str, Any]]) -> set[int]:
    """Return the objects with one conditioning frame: a static bank has room for one and the
    frames before.
    """
    counts = Counter(step["object"] for step in steps if step["conditioning"])
    return {number for number, count in counts.items() if count == 1}
