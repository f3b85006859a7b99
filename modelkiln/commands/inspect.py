"""`invoke inspect`: what a built target is."""

from collections.abc import Mapping
from typing import Any

from modelkiln import console
from modelkiln.kiln import Kiln
from modelkiln.once import find_manifest, one_target
from modelkiln.publish import say_summary, target_folder
from modelkiln.units import human_bytes


def inspect_target(kiln: Kiln, text: str, *, as_json: bool = False) -> None:
    """Print a target's contract, operators, sizes, checks and provenance.

    Raises:
        UsageError: it has not been built.
    """
    target = one_target(kiln, text)
    manifest = find_manifest(kiln, target)
    if as_json:
        console.say_json({**manifest, "signature": [dict(one) for one in target.graphs]})
        return
    console.say(f"{target.name}\n  {target.contract.summary}\n  {target_folder(kiln, target)}")
    weights = manifest["weights"]
    console.say(f"  weights: {', '.join(f'{k} {v}' for k, v in weights.items())}")
    for graph in target.graphs:
        console.say(f"\n{graph['file']}")
        for kind in ("inputs", "outputs"):
            for value in graph[kind]:
                dims = ", ".join(map(str, value["dims"]))
                console.say(f"  {kind[:-1]:<7} {value['name']:<18} {value['dtype']} [{dims}]")
        _say_metrics(_graph_metrics(manifest, graph))
    console.say("\nfiles")
    console.say_table(
        ("name", "size", "sha256"),
        [
            (name, human_bytes(one["bytes"]), one["sha256"])
            for name, one in manifest["files"].items()
        ],
    )
    console.say(f"\nverified: {say_summary(manifest['verification'])}")
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
