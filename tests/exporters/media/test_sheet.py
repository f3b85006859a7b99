"""Captions and banners around what is drawn."""

from exporters.media.sheet import random_weights_banner


def test_a_contract_says_what_random_weights_make_meaningless() -> None:
    assert random_weights_banner({"name": "image"}) == "random weights: this mask means nothing"
    assert random_weights_banner({"yields": "text"}) == "random weights: this text means nothing"
