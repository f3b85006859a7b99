"""The front door: `invoke --list` shows it. Tasks live in modelkiln/commands/tasks/."""

from invoke.collection import Collection

from bench.tasks import benches
from modelkiln.commands.tasks import environments, project, quantize, results, store, targets

ns = Collection(
    project.quickstart,
    targets.targets,
    targets.plan,
    targets.build,
    targets.build_all,
    targets.verify,
    results.predict,
    results.track,
    quantize.quantize,
    results.inspect,
    results.report,
    targets.reproduce,
    results.weights_check,
    project.doctor,
    project.run_tests,
    project.lint,
)
ns.add_collection(Collection("store", store.store_verify, store.store_gc))
ns.add_collection(Collection("env", environments.env_list, environments.env_prune))
ns.add_collection(
    Collection(
        "image",
        environments.image_build,
        environments.image_list,
        environments.image_prune,
        environments.image_sbom,
    )
)
ns.add_collection(Collection("pins", environments.pins_check, environments.pins_lock))
ns.add_collection(benches)
