"""Renders templates as transformers does: one JSON object a line in, one out.

In: {"template", "variables"}; variables of the line before stand where there are none.
Out: {"text", "generation"} with spans in UTF-16 units, {"error"}, or {"stopped"} for what took too long.
"""

import json
import resource
import signal
import sys

from transformers.utils import chat_template_utils

SECONDS = 5
MEMORY = 8 << 30


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class Stopped(BaseException):
    pass


def stop(*_):
    raise Stopped


def render(template: str, variables: dict) -> dict:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
        variables = dict(variables)
        arguments = {name: variables.pop(name, None) for name in ("messages", "tools", "documents")}
        text, spans = chat_template_utils._render_with_assistant_indices(
            compiled, add_generation_prompt=variables.pop("add_generation_prompt", False), **arguments, **variables
        )
    except Stopped:
        return {"stopped": f"not done after {SECONDS} s"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    offsets = [[utf16(text[:start]), utf16(text[:end])] for start, end in spans]
    return {"text": text, "generation": offsets}


signal.signal(signal.SIGALRM, stop)

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    text = "{}"
    for line in sys.stdin:
        job = json.loads(line)
        if "variables" in job:
            text = json.dumps(job["variables"])
        print(json.dumps(render(job["template"], json.loads(text))))
