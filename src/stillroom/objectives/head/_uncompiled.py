"""The head of a vocabulary in parts, which ``torch.compile`` leaves as it is.

A file of its own, imported while something is compiled: saying so loads the compiler, which takes longer than torch.
"""

from __future__ import annotations

from typing import Any

import torch

from stillroom.objectives.head.fused import eager_head

uncompiled_head: Any = torch.compiler.disable(eager_head)
