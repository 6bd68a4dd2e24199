"""Number formats of weights."""

from __future__ import annotations

from typing import Literal

DType = Literal["float32", "bfloat16", "float16"]
BYTES_PER_ELEMENT: dict[DType, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
