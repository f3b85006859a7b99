"""`invoke inspect`: what a built target is, or the engines of several."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modelkiln.building.available import note_left_out
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import (
    CHECKED,
    MANIFEST,
    REPORT,
    find_manifest,
    read_status,
    target_folder,
)
from modelkiln.building.prepare import prepare
from modelkiln.building.report import PLAN, find_benefit, find_engines
from modelkiln.catalog.target import Target
from modelkiln.errors import UsageError
from modelkiln.report.engines import Engines, say_gpus, tabulate_engines
from modelkiln.report.float16 import say_range
from modelkiln.report.quality import read_quality
from modelkiln.report.summary import say_status
from modelkiln.util import console
from modelkiln.util.units import human_bytes


def inspect_targets(kiln: Kiln, text: str, *, as_json: bool = False) -> None:
    """Print what a target is: contract, operators, sizes, checks and provenance; where several are
    named, a table of their engines.

    Raises:
        UsageError: It has not been built, or none of several has, or a manifest is damaged.
    """
    prepared = prepare(kiln, text, runs=False)
    note_left_out(prepared.left_out)
    if len(prepared.targets) > 1:
        _inspect_several(kiln, prepared.asked, prepared.targets, as_json=as_json)
        return
    (target,) = prepared.targets
    manifest = find_manifest(kiln, target)
    if as_json:
        engines = find_engines(kiln, target, manifest)
        console.say_json(_document(target, manifest, engines and _in_order(target, engines)))
    else:
        _describe(kiln, target, manifest)


def _inspect_several(kiln: Kiln, asked: str, targets: Sequence[Target], *, as_json: bool) -> None:
    built = [one for one in targets if (target_folder(kiln, one) / MANIFEST).exists()]
    if missing := [one.name for one in targets if one not in built]:
        console.note(f"not built, left out: {', '.join(missing)}")
    manifests = {one.name: (one, find_manifest(kiln, one)) for one in built}
    engines = {
        name: _in_order(one, found)
        for name, (one, manifest) in manifests.items()
        if (found := find_engines(kiln, one, manifest)) is not None
    }
    if not manifests:
        raise UsageError(
            f"None of the {len(targets)} targets that {asked!r} names has been built.",
            f"There is no {MANIFEST} of any of them.",
            f"invoke build {asked!r}",
        )
    if as_json:
        console.say_json(
            [
                _document(one, manifest, engines.get(name))
                for name, (one, manifest) in manifests.items()
            ]
        )
        return
    if others := [name for name in manifests if name not in engines]:
        console.note(f"no engines, left out: {', '.join(others)}")
    if not engines:
        raise UsageError(
            f"{asked!r} names {len(targets)} targets, and none that is built has engines.",
            "Of several targets it is engines that are listed; one target is described whole.",
            f"invoke inspect {built[0].name}",
        )
    console.say_table(*tabulate_engines(engines))
    console.say("\nactivations and weights: on the GPU, at the largest shapes")


def _in_order(target: Target, engines: Engines) -> Engines:
    """Return engines in the order of the contract's graphs."""
    order = [one["name"] for one in target.graphs]
    return {**engines, "rows": sorted(engines["rows"], key=lambda row: order.index(row["graph"]))}


def _document(
    target: Target, manifest: Mapping[str, Any], engines: Engines | None
) -> dict[str, Any]:
    signature = [dict(one) for one in target.graphs]
    return {**manifest, "signature": signature, "engines": engines}


def _describe(kiln: Kiln, target: Target, manifest: Mapping[str, Any]) -> None:
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
    promise = "the same bytes in another build" if row["same_bytes"] else "same bytes not promised"
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
