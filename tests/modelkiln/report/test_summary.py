"""What a verification found, in one line."""

from typing import Any

from modelkiln.report.summary import say_status, say_summary
from tests.modelkiln.engine_case import SUMMARY
from tests.modelkiln.quality_case import BENEFIT, CHECKS, miss

WORST: Any = {"graph": "encoder", "tensor": "image_embed", "relative": 2e-6, "bound": 1e-5}


def test_the_worst_tensor_is_the_one_that_is_nearest_to_its_bound() -> None:
    larger = {**WORST, "tensor": "other", "relative": 3e-6, "bound": 1e-3}
    summary: Any = {"worst": {"a": larger, "b": WORST}, "masks": 0}
    assert say_summary(summary) == (
        "differs from PyTorch by 2.0e-06 of a tensor's scale at most "
        "(encoder image_embed; bound 1e-05)"
    )
    masks = {"masks": 3, "masks_counted": 2, "lowest_iou": 0.99951}
    assert say_summary({**summary, **masks}).endswith("; 2 of 3 masks counted, lowest IoU 0.99951")


def test_only_what_is_verified_is_called_so() -> None:
    summary: Any = {"worst": {"a": WORST}, "masks": 0}
    assert say_status("verified", summary).startswith("verified: differs from PyTorch by 2.0e-06")
    assert say_status("built", SUMMARY).startswith("built, not run: ")
    for status in ("built", "", "other"):
        assert "verified" not in say_status(status, SUMMARY)
        assert say_status(status, "words agree") == "built, not run: words agree"
        assert say_status(status, None) == say_status(status, "") == "built, not run"


def test_a_summary_in_words_is_told_as_it_is() -> None:
    assert say_summary("words agree") == "words agree"
    assert say_summary(None) == say_summary("") == "passed"


def test_a_summary_tells_of_the_loop() -> None:
    worst = {"a/b": WORST}
    loop = {
        "steps": 20,
        "frames": 8,
        "objects": 3,
        "seen": 18,
        "counted": 17,
        "lowest_iou": 0.99951,
        "lowest_pointer_cosine": 0.9999912,
    }
    summary: Any = {"worst": worst, "masks": 0, "masks_counted": 0, "lowest_iou": None}
    plain = say_summary(summary)
    assert say_summary({**summary, "loop": loop}) == (
        f"{plain}; 3 objects followed through 8 frames, 17 of 20 masks counted, "
        "lowest IoU 0.99951, lowest cosine of a pointer 0.999991"
    )
    none = say_summary({**summary, "loop": {**loop, "lowest_iou": None}})
    assert "lowest IoU none" in none


def test_the_summary_says_what_was_lost_and_gained() -> None:
    assert say_summary(CHECKS["summary"], BENEFIT) == (
        "51 of 51 linears INT8; SNR >= 31.2 dB (encoder image_embed), lowest mask IoU 0.9912, "
        "0.36x the size, 1.52x as fast as float32 here"
    )
    assert say_summary(CHECKS["summary"]).endswith("0.36x the size")


def test_the_summary_marks_random_weights_and_what_does_not_pay() -> None:
    summary = miss(CHECKS, binding=False)["summary"]
    speed = {"cpu": 0.9, "cuda": 1.01}
    said = say_summary(summary, {**BENEFIT, "speed": speed, "pays": False})
    assert "0.90x as fast as float32 here, 1.01x as fast as float32 on cuda" in said
    assert said.endswith(
        "does not pay here: neither smaller nor faster than float32; "
        "gates not binding: random weights, 1 missed"
    )


def test_the_summary_of_features_and_of_fp16_names_what_there_is() -> None:
    summary = CHECKS["summary"] | {"lowest_iou": None, "mode": "fp16"}
    summary["linears"] = {"linears": 51, "quantized": 0}
    assert say_summary(summary).startswith(
        "FP16; SNR >= 31.2 dB (encoder image_embed), lowest cosine 0.999671, "
    )


def test_the_closed_loop_may_be_what_fares_worst() -> None:
    summary = CHECKS["summary"] | {"loop": {"lowest_iou": 0.985}}
    assert "lowest mask IoU 0.9850" in say_summary(summary)
