"""The table of engines in docs/tensorrt.md: what it says of what `invoke inspect` prints."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from docs import draw_engines
from docs.draw_engines import BEGIN, END, PAGE, TARGETS, draw, replace_table
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from modelkiln.report.engines import read_engines
from tests.modelkiln.engine_case import BUILT, SIZES

PLACE = f"before\n{BEGIN} (a word) -->\nold\n{END}\nafter\n"
ENGINES: Any = read_engines(BUILT, SIZES)
DOCUMENTS: Any = [
    {"target": "tiny+random0/tracker/rtx-fp16@sm86+sm120", "engines": ENGINES},
    {"target": "tiny+random0/tracker/onnx-fp16", "engines": None},
]


def test_every_engine_is_a_row() -> None:
    table = draw(DOCUMENTS)
    lines = table.splitlines()
    assert lines[0].startswith("Engines of TensorRT for RTX 1.7.1.116; sizes in MB.")
    head, rule, *rows = [line for line in lines if line.startswith("|")]
    assert head.count("|") == rule.count("|") == rows[0].count("|") == 10
    assert rows == [
        "| `tiny/tracker/rtx-fp16@sm86+sm120` | encoder | 67.8 | 753.0 | 54.0 | 100 | sm86, sm120 "
        "| fixed | yes |",
        "| `tiny/tracker/rtx-fp16@sm86+sm120` | decoder | 17.5 | 1.0 | 2.0 | 10 | sm86, sm120 "
        "| range | no |",
    ]


def test_versions_are_not_mixed() -> None:
    other = {"target": "b/c/d", "engines": {**ENGINES, "version": "1.8"}}
    with pytest.raises(SystemExit, match=r"RTX 1\.7\.1\.116, TensorRT for RTX 1\.8"):
        draw([*DOCUMENTS, other])
    with pytest.raises(SystemExit, match="none"):
        draw(DOCUMENTS[1:])


def test_what_stands_between_the_markers_is_replaced() -> None:
    once = replace_table(PLACE, "| new |")
    assert once == f"before\n{BEGIN} (a word) -->\n\n| new |\n\n{END}\nafter\n"
    assert replace_table(once, "| new |") == once


@pytest.mark.parametrize(
    "text",
    ["", PLACE * 2, PLACE.replace(END, ""), PLACE.replace(BEGIN, ""), f"{END}\n{BEGIN} -->"],
)
def test_a_page_without_its_markers_is_left_alone(text: str) -> None:
    with pytest.raises(SystemExit, match="each once"):
        replace_table(text, "")


def test_the_page_has_them_and_the_targets_exist() -> None:
    replace_table(PAGE.read_text(encoding="utf-8"), "")
    targets = Kiln(Options(weights="random")).targets(",".join(TARGETS))
    contracts = {(one.model.name, one.contract_name) for one in targets}
    assert len(contracts) == len(TARGETS)
    formats = {one.format.name for one in targets}
    assert formats == {"rtx-fp32", "rtx-fp16", "rtx-int8", "rtx-fp8"}


def test_the_command_asks_invoke_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACE)
    invoke = tmp_path / "invoke"
    invoke.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "(here / 'asked').write_text(' '.join(sys.argv[1:]))\n"
        "print((here / 'says').read_text())\nsys.exit(int((here / 'rc').read_text()))\n"
    )
    invoke.chmod(0o755)
    monkeypatch.setattr(draw_engines, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["draw_engines.py", "--weights", "random"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "says").write_text(json.dumps(DOCUMENTS))
    (tmp_path / "rc").write_text("2")
    with pytest.raises(SystemExit) as stopped:
        draw_engines.main()
    assert stopped.value.code == 2 and page.read_text() == PLACE
    (tmp_path / "rc").write_text("0")
    draw_engines.main()
    assert (
        tmp_path / "asked"
    ).read_text() == f"inspect {','.join(TARGETS)} --json --weights random"
    assert page.read_text() == replace_table(PLACE, draw(DOCUMENTS))
    assert capsys.readouterr().out == "2 engines of 2 targets\n"
    # Of one target there is one document.
    (tmp_path / "says").write_text(json.dumps(DOCUMENTS[0]))
    draw_engines.main()
    assert page.read_text() == replace_table(PLACE, draw(DOCUMENTS[:1]))
