"""Makes reward-bench.json: sections, subsets and weights of RewardBench's own scoring, and its scores of made-up accuracies.

Two modules of the package are read by path, because the package itself imports what generation needs.
"""

import ast
import importlib.util
from importlib.metadata import distribution

from store import write


def make() -> None:
    package = distribution("rewardbench")
    spec = importlib.util.spec_from_file_location("constants", package.locate_file("rewardbench/constants.py"))
    constants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(constants)
    tree = ast.parse(package.locate_file("rewardbench/utils.py").read_text())
    scoring = next(node for node in tree.body if getattr(node, "name", "") == "calculate_scores_per_section")
    scope: dict = {}
    exec(compile(ast.Module([scoring], []), "utils.py", "exec"), scope)
    counts, sections = constants.EXAMPLE_COUNTS, constants.SUBSET_MAPPING
    accuracies = {subset: round((i * 37 % 101) / 101, 6) for i, subset in enumerate(counts)}
    write(
        "reward-bench",
        ["rewardbench"],
        {
            "sections": {name: {subset: counts[subset] for subset in subsets} for name, subsets in sections.items()},
            "accuracies": accuracies,
            "scores": scope["calculate_scores_per_section"](counts, sections, accuracies),
        },
    )
