"""What Jinja2 renders, in the environment of transformers, for the templates of test/matrix/jinja/cases.json."""

import json
import re
import sys
from pathlib import Path

from store import write

FOLDER = Path(__file__).parent.parent / "matrix" / "jinja"
sys.path.insert(0, str(FOLDER))

import peer  # noqa: E402

# Parts of a text that differ from one run to the next.
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def make() -> None:
    cases = json.loads((FOLDER / "cases.json").read_text())
    context = json.loads((FOLDER / "context.json").read_text())
    groups = {}
    for group, templates in cases.items():
        groups[group] = []
        for template in templates:
            result = peer.render(template, context)
            if ADDRESS.search(result.get("text", "")):
                result = {"error": "an address in memory"}
            groups[group].append({"template": template, **result})
    write("jinja", ["jinja2", "transformers"], {"context": context, "groups": groups})

