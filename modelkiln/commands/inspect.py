"""`invoke inspect`: what a built target is."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import CHECKED, REPORT, find_manifest, read_status, target_folder
from modelkiln.building.prepare import prepare
from modelkiln.building.report import PLAN, find_benefit, find_engines
from modelkiln.catalog.target import Target
from modelkiln.report.engines import Engines, say_gpus
from modelkiln.report.float16 import say_range
from modelkiln.report.quality import read_quality
from modelkiln.report.summary import say_status
from modelkiln.util import console
from modelkiln.util.units import human_bytes


def inspect_target(kiln: Kiln, text: str, *, as_json: bool = False) -> None:
    """Print a target's contract, operators, sizes, checks and provenance.

    Raises:
        UsageError: it has not been built.
    """
    target = prepare(kiln, text, runs=False).target
    manifest = find_manifest(kiln, target)
    if as_json:
        console.say_json({**manifest, "signature": [dict(one) for one in target.graphs]})
        return
    console.say(f"{target.name}\n  {target.contract.summary}\n  {target_folder(kiln, target)}")
    weights = manifest["weights"]
    console.say(f"  weights: {', '.join(f'{k} {v}' for k, v in weights.items())}")
    engines = find_engines(kiln, target, manifest)
    names = target.engine_files if engines else {}
    for graph in target.graphs:
        console.say(f"\n{names.get(graph['name'], graph['file'])}")
        for kind in ("inputs", "outputs"):
            for value in graph[kind]:
                dims = ", ".join(map(str, value["dims"]))
                console.say(f"  {kind[:-1]:<7} {value['name']:<18} {value['dtype']} [{dims}]")
        if engines:
            _say_engine(engines, graph["name"])
        else:
            _say_metrics(_graph_metrics(manifest, graph))
    console.say("\nfiles")
    console.say_table(
        ("name", "size", "sha256"),
        [
            (name, human_bytes(one["bytes"]), one["sha256"])
            for name, one in manifest["files"].items()
        ],
    )
    if not engines:
        _say_quality(kiln, target, manifest)
    status = read_status(manifest)
    console.say(
        f"\n{say_status(status, manifest.get(CHECKED[status]), find_benefit(kiln, manifest))}"
    )
    console.say("\nsteps")
    console.say_table(
        ("step", "key", "runner", "sealed"),
        [
            (name, step["key"][:12], str(step["runner"]), str(step["sealed"]))
            for name, step in manifest["steps"].items()
        ],
    )
    environment = ", ".join(f"{name} {one}" for name, one in manifest["environment"].items())
    console.say(f"\nenvironment: {environment}")


def _say_engine(engines: Engines, graph: str) -> None:
    (row,) = (one for one in engines["rows"] if one["graph"] == graph)
    console.say(
        f"  {engines['title']} {engines['version']}, {engines['precision']}, "
        f"TF32 {'on' if engines['tf32'] else 'off'}; {say_gpus(engines['gpus'])}"
    )
    console.say(
        f"  {human_bytes(row['bytes'])}; on the GPU {human_bytes(row['activation_memory'])} of "
        f"activations at the largest shapes, {human_bytes(row['weights_memory'])} of weights"
    )
    console.say(f"  {row['layers']} layers; products and convolutions: {row['types']}")
    console.say(f"  shapes: {row['shapes'] or 'fixed'}")
    promise = "the same bytes in every build" if row["same_bytes"] else "same bytes not promised"
    console.say(f"  {promise}; from ONNX sha256:{row['onnx'][:16]} of {engines['source']}")


def _say_quality(kiln: Kiln, target: Target, manifest: Mapping[str, Any]) -> None:
    """Say a reduced precision's gates, its layers that were left out, and its range."""
    if PLAN not in manifest["files"]:
        return
    folder = target_folder(kiln, target)
    checks, plan = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in (REPORT, PLAN)
    )
    quality = read_quality(checks, plan, {})
    if quality is None:
        return
    console.say("\ngates" if quality["binding"] else "\ngates (not binding: random weights)")
    console.say_table(
        ("gate", "runtime", "of", "found", "least", ""),
        [
            (
                one["name"],
                one["runtime"],
                f"{one['graph']} {one['tensor']}",
                "no noise" if one["value"] is None else f"{one['value']:.6g}",
                f"{one['bound']:g}",
                "ok" if one["ok"] else "missed",
            )
            for one in quality["gates"]
        ],
    )
    left_out = Counter(one["reason"] for one in quality["layers"] if one["reason"])
    for reason, count in left_out.items():
        console.say(f"  {count} layer{'s' if count > 1 else ''} left out: {reason}")
    for row in quality["ranges"]:
        for line in say_range(row):
            console.say(f"  {line}")


def _graph_metrics(manifest: Mapping[str, Any], graph: Mapping[str, Any]) -> Mapping[str, Any]:
    graphs = manifest["graphs"].get("graphs", manifest["graphs"])
    found = graphs.get(graph["name"]) or graphs.get(graph["file"]) or {}
    return found if isinstance(found, Mapping) else {}


def _say_metrics(metrics: Mapping[str, Any]) -> None:
    if not metrics:
        return
    ops = metrics.get("ops", {})
    console.say(f"  opset {metrics.get('opset')}, {metrics.get('nodes')} nodes")
    most = sorted(ops.items(), key=lambda one: (-one[1], one[0]))
    console.say("  " + ", ".join(f"{name} {count}" for name, count in most))
