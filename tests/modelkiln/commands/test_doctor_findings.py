"""modelkiln.commands.doctor_findings: what follows from findings, and how they are told."""

from modelkiln.commands.doctor_findings import (
    Finding,
    Kind,
    Severity,
    has_problem,
    judge,
    to_document,
    to_lines,
)


def test_judgement_names_what_stops() -> None:
    kinds = {
        "onnx-*": Kind(),
        "rtx-*": Kind(runs_on_gpu=True),
        "trt-*": Kind(why="It is too large.", remedy="Take rtx-fp16."),
    }
    problem = Finding(about="uv", severity=Severity.PROBLEM, message="missing")
    found = {one.about: one for one in judge([problem], kinds)}
    assert "see uv" in found["onnx-*"].message and "see uv" in found["rtx-*"].message
    found = {one.about: one for one in judge([], kinds)}
    assert [one.severity.value for one in found.values()] == ["good", "good", "note"]
    assert found["onnx-*"].message == "can be built here"
    assert "without a GPU; running them takes one" in found["rtx-*"].message
    assert "too large" in found["trt-*"].message and found["trt-*"].remedy == "Take rtx-fp16."


def test_lines_and_document() -> None:
    findings = [
        Finding(about="a", severity=Severity.GOOD, message="fine"),
        Finding(about="longer", severity=Severity.PROBLEM, message="not fine", remedy="mend it"),
    ]
    assert to_lines(findings) == [
        "good     a       fine",
        "problem  longer  not fine",
        "                 -> mend it",
    ]
    assert to_document(findings)[1] == {
        "about": "longer",
        "severity": "problem",
        "message": "not fine",
        "remedy": "mend it",
    }
    assert has_problem(findings) and not has_problem(findings[:1])
