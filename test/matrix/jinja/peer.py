"""Renders templates as transformers does: one JSON object a line in, one out.

In: {"template", "variables"}. Out: {"text", "generation"} with spans in UTF-16 units, or {"error"}.
"""

import json
import sys

from transformers.utils import chat_template_utils


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def render(template: str, variables: dict) -> dict:
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
        variables = dict(variables)
        arguments = {name: variables.pop(name, None) for name in ("messages", "tools", "documents")}
        text, spans = chat_template_utils._render_with_assistant_indices(
            compiled, add_generation_prompt=variables.pop("add_generation_prompt", False), **arguments, **variables
        )
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    offsets = [[utf16(text[:start]), utf16(text[:end])] for start, end in spans]
    return {"text": text, "generation": offsets}


if __name__ == "__main__":
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(render(job["template"], job["variables"])), flush=True)
