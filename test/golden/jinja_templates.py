"""What Jinja2 renders, in the environment of transformers, for the templates of test/matrix/jinja/cases.json, and for the
random ones that `npm run test:matrix -- jinja --sample 600` wrote into jinja-random.json."""

import json
import re
import sys
from pathlib import Path

from store import FOLDER as OUT
from store import write

FOLDER = Path(__file__).parent.parent / "matrix" / "jinja"
sys.path.insert(0, str(FOLDER))

import peer  # noqa: E402

# Parts of a text that differ from one run to the next.
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def answer(template: str, variables: dict) -> dict:
    result = peer.render(template, variables)
    if ADDRESS.search(result.get("text", "")):
        result = {"error": "an address in memory"}
    return {"template": template, **result}


def make_random() -> None:
    cases = json.loads((OUT / "jinja-random.json").read_text())["cases"]
    variables = (FOLDER / "variables.json").read_text()
    answers = [answer(case["template"], json.loads(variables)) for case in cases]
    write("jinja-random", ["jinja2", "transformers"], {"variables": json.loads(variables), "cases": answers})


def make() -> None:
    make_random()
    cases = json.loads((FOLDER / "cases.json").read_text())
    context = json.loads((FOLDER / "context.json").read_text())
    groups = {}
    for group, templates in cases.items():
        groups[group] = []
        for template in templates:
            groups[group].append(answer(template, context))
    write("jinja", ["jinja2", "transformers"], {"context": context, "groups": groups})

