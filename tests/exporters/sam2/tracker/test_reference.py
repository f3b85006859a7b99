"""The reference: what it tries, the video that it plays, and that it is upstream's own doing."""

import numpy as np

from tests.exporters.sam2.tracker.models import Trackers


def test_the_reference_covers_what_it_is_for(trackers: Trackers) -> None:
    done = trackers.reference("sam2.1")
    reference = trackers.load_reference("sam2.1")
    document = reference.document
    assert done.metrics["pictures"] == len(document["pictures"]) == 4
    steps = document["loop"]["steps"]
    cases = sum(len(document[part]) for part in ("pictures", "decoder", "attention", "memory"))
    assert done.metrics["cases"] == cases + len(steps) > 130
    signs = {
        float(sign)
        for case in document["decoder"]
        for sign in np.sign(reference[f"decoder/{case['name']}/rule/occ_logit"]).ravel()
    }
    assert signs == {-1.0, 1.0}
    for kind in ("prompted", "tracked", "mixed"):
        rows = [
            reference[f"memory/{case['name']}/occ_logit"]
            for case in document["memory"]
            if case["name"].startswith(kind)
        ]
        assert {float(sign) for sign in np.sign(np.concatenate(rows)).ravel()} == {-1.0, 1.0}
    conditioning = {(one["object"], one["frame"]) for one in steps if one["conditioning"]}
    assert sum(number == 4 for number, _ in conditioning) == 2
    assert {number for number, _ in conditioning} == {1, 2, 3, 4}
    assert len({one["occlusion"] > 0 for one in steps if one["object"] in (1, 3)}) == 2


def test_the_single_mask_and_its_fallback_both_occur(trackers: Trackers) -> None:
    """Prompts of several points take the single mask, unless that one is not stable."""
    reference = trackers.load_reference("sam2.1")
    fallen = set()
    for case in reference.document["decoder"]:
        prefix = f"decoder/{case['name']}"
        if case["masks"]:
            continue
        several = (reference[f"{prefix}/point_labels"] != -1).sum(axis=1) > 1
        seen = reference[f"{prefix}/rule/occ_logit"][:, 0] > 0
        same = np.array(
            [
                np.array_equal(one, other)
                for one, other in zip(
                    reference[f"{prefix}/rule/pred_mask"],
                    reference[f"{prefix}/best/pred_mask"],
                    strict=True,
                )
            ]
        )
        fallen |= set(same[several & seen].tolist())
    assert fallen == {True, False}
