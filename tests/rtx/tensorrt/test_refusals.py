"""Refusals in TensorRT's words and in ours."""

from exporters.tensorrt.refusals import REFUSALS, UNKNOWN_NEXT, explain


def test_what_is_understood_is_explained_beside_its_own_words() -> None:
    error = explain("It was refused.", ["INVALID_NODE at Add /a: must have same input types"])
    assert error.what == "It was refused."
    assert "weak typing" in error.why
    assert "INVALID_NODE at Add /a: must have same input types." in error.why
    assert "casts" in error.next


def test_what_is_not_understood_is_handed_on() -> None:
    error = explain("It was refused.", ["Something new", "and more"])
    assert error.why == "TensorRT says: Something new; and more."
    assert error.next == UNKNOWN_NEXT
    assert explain("It was refused.", []).why == "TensorRT says: Nothing."


def test_every_explanation_is_sentences() -> None:
    for one in REFUSALS:
        assert one.means[0].isupper()
        assert not one.means.endswith(".")
        assert one.remedy.endswith(".")
