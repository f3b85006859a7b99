"""The still-image contracts' part of `verify`: encoder, decoder, and both end to end."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.checks.parity import Check, compare_masks, compare_scores, compare_tensors
from exporters.checks.reference import Arrays, Reference, Run
from exporters.media.pictures import masks_to_picture, normalize
from exporters.protocol import report_progress


def check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """Compare all outputs of both graphs, and the masks that they make together.

    The decoder is compared twice: on the reference's features, tensor by tensor, and on the
    encoder's own, mask by mask and score by score. Cases that need an input which the contract
    lacks are left out.
    """
    graphs = {golden["name"]: golden for golden in contract["graphs"]}
    bound = float(contract["tolerances"]["parity"])
    outputs = [value["name"] for value in graphs["encoder"]["outputs"]]
    takes_masks = any(value["name"] == "mask_input" for value in graphs["decoder"]["inputs"])
    batches = isinstance(graphs["encoder"]["inputs"][0]["dims"][0], str)
    pictures = reference.document["pictures"]
    done = 0
    for group in _groups(pictures, batches):
        report_progress(
            0.15 + 0.85 * done / len(pictures), f"comparing {', '.join(p['name'] for p in group)}"
        )
        images = [normalize(reference[f"{picture['name']}/picture"]) for picture in group]
        found = run("encoder", {"image": np.concatenate(images)})
        for index, picture in enumerate(group):
            own = {name: found[name][index : index + 1] for name in outputs}
            case = picture["name"] + (f" in a batch of {len(group)}" if len(group) > 1 else "")
            for name in outputs:
                if "encoder" not in reference.untouched:
                    yield compare_tensors(
                        reference[f"{picture['name']}/{name}"],
                        own[name],
                        graph="encoder",
                        case=case,
                        tensor=name,
                        bound=bound,
                        photograph=bool(picture["photograph"]),
                    )
            for prompt in picture["prompts"]:
                if takes_masks or not any(prompt["masks"]):
                    yield from _check_prompt(run, contract, reference, picture, prompt, own)
        done += len(group)


def _check_prompt(
    run: Run,
    contract: Mapping[str, Any],
    reference: Reference,
    picture: Mapping[str, Any],
    prompt: Mapping[str, Any],
    own: Arrays,
) -> Iterator[Check]:
    tolerances = contract["tolerances"]
    parity, photograph = float(tolerances["parity"]), bool(picture["photograph"])
    case = f"{picture['name']}/{prompt['name']}"
    prompts = {
        name: reference[f"{case}/{name}"]
        for name in ("point_coords", "point_labels", "mask_input", "has_mask_input")
    }
    # An absent mask is never looked at, whatever it holds.
    prompts["mask_input"][prompts["has_mask_input"] == 0] = np.nan
    if "decoder" not in reference.untouched:
        features = {name: reference[f"{picture['name']}/{name}"] for name in own}
        found = run("decoder", {**features, **prompts})
        for name in ("masks", "iou_predictions"):
            yield compare_tensors(
                reference[f"{case}/{name}"],
                found[name],
                graph="decoder",
                case=case,
                tensor=name,
                bound=parity,
                photograph=photograph,
            )
    together = run("decoder", {**own, **prompts})
    yield compare_scores(
        reference[f"{case}/iou_predictions"],
        together["iou_predictions"],
        case=case,
        bound=parity,
        photograph=photograph,
    )
    expected = np.unpackbits(reference[f"{case}/inside"], axis=-1).astype(bool)
    low, high = tolerances["mask_coverage"]
    for index, (wanted, given) in enumerate(zip(expected, together["masks"], strict=True)):
        inside = _enlarge(given, wanted.shape[-1])
        for number, mask in enumerate(wanted):
            yield compare_masks(
                mask,
                inside[number],
                case=case,
                mask=f"set {index + 1}, mask {number + 1}",
                bound=float(tolerances["mask_iou"]),
                coverage=(float(low), float(high)),
                photograph=photograph,
            )


def _enlarge(logits: NDArray[np.float32], size: int) -> NDArray[np.bool_]:
    return np.asarray(masks_to_picture(logits, size, size) > 0)


def _groups(pictures: list[dict[str, Any]], batches: bool) -> Iterator[list[dict[str, Any]]]:
    """Yield single pictures, or batches of two, three and one in turn."""
    sizes = (2, 3, 1) if batches else (1,)
    start = turn = 0
    while start < len(pictures):
        size = sizes[turn % len(sizes)]
        yield pictures[start : start + size]
        start, turn = start + size, turn + 1
