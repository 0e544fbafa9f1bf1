# SPDX-License-Identifier: GPL-2.0-only
"""The rules' results as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(data: Mapping[str, Any]) -> str:
    """Return rules_data.gather()'s tree as text."""
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
