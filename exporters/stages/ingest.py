"""The stage `ingest`: a checkpoint in any of its usual forms becomes one safetensors file.

It is the only stage that opens a pickle. What it writes is float32, complete, finite, and of the
architecture that was asked for.
"""

from safetensors.numpy import save_file

from exporters.protocol import BAD_INPUT, Result, StageError, Step, as_sentence, report_progress
from exporters.weights.checkpoint import as_float32, compare_shapes, read_checkpoint
from exporters.weights.random import draw_weights


def run(step: Step) -> Result:
    """Read a checkpoint or draw random weights, and write `weights.safetensors`.

    Parameters: `source` is {"kind": "file", "format": "pt" | "safetensors"}, with an input
    `checkpoint`, or {"kind": "random", "seed": int}; the rest goes to the family's part, which
    builds the architecture (`build_network`), knows its relatives (`find_relative`), and may
    change random weights that would leave a part of the network without effect (`mend_random`).

    Raises:
        StageError: The file cannot be read or is not this model's (exit code 2).
    """
    provider = step.provider()
    source = step.param("source")
    report_progress(0.0, f"building {step.param('model')}")
    network = provider.build_network(step.params)
    if source["kind"] == "random":
        report_progress(0.3, f"drawing random weights from seed {source['seed']}")
        weights = draw_weights(network, int(source["seed"]))
        if hasattr(provider, "mend_random"):
            provider.mend_random(weights)
    else:
        report_progress(0.3, "reading the checkpoint")
        found = read_checkpoint(step.input("checkpoint"), source["format"])
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        problem = compare_shapes(expected, shapes)
        if problem:
            relative = provider.find_relative(shapes, step.params)
            raise _wrong_model(str(step.param("model")), problem, relative)
        weights = as_float32(found)
    del network
    report_progress(0.7, "writing weights.safetensors")
    save_file(weights, step.out / "weights.safetensors")
    values = sum(value.size for value in weights.values())
    return Result(
        outputs=["weights.safetensors"],
        metrics={
            "tensors": len(weights),
            "values": values,
            "bytes": (step.out / "weights.safetensors").stat().st_size,
            "random": source["kind"] == "random",
        },
    )


def _wrong_model(model: str, problem: str, relative: str | None) -> StageError:
    return StageError(
        f"The checkpoint is not one of {model}.",
        as_sentence(problem + (f"; it has the shape of {relative}" if relative else "")),
        f"Name {relative} in the target instead."
        if relative
        else f"Give the checkpoint of {model}, or name the model that it belongs to.",
        exit_code=BAD_INPUT,
    )
