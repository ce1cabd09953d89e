"""How goldens are written: JSON with the versions of what computed them, arrays as base64 of float32."""

import base64
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy
import torch

FOLDER = Path(__file__).resolve().parent
CHECKPOINTS = FOLDER / "checkpoints"


def array(tensor: torch.Tensor) -> dict:
    """Shape and little-endian float32 bytes, exact."""
    values = numpy.ascontiguousarray(tensor.detach().to(torch.float32).numpy(), dtype="<f4")
    return {"shape": list(tensor.shape), "float32": base64.b64encode(values.tobytes()).decode()}


def write(name: str, packages: list[str], content: dict) -> None:
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    text = json.dumps({"madeBy": "test/golden/make.py", "versions": versions} | content, indent=1)
    (FOLDER / f"{name}.json").write_text(compact(text) + "\n")


def compact(text: str) -> str:
    """Lists of numbers on one line."""
    import re

    return re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
