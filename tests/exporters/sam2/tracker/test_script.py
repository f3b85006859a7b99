"""The prompts of the video."""

from exporters.sam2.tracker.script import from_json, make_script, plain_objects, to_json


def test_the_script_has_every_kind_of_prompt() -> None:
    short, long = make_script(8), make_script(32)
    assert from_json(to_json(long)) == long
    assert plain_objects(short) == plain_objects(long) == (1, 3)
    for script in (short, long):
        (box,) = [one for one in script if one.box]
        (correction,) = [one for one in script if one.object == box.object and one.late]
        assert 0 < box.frame < correction.frame
    fourth = [one for one in long if one.object == 4]
    frames = [(one.frame, one.late) for one in fourth]
    assert len(frames) == 5 and len(set(frames)) == 3
    assert sum(late for _, late in set(frames)) == 1
