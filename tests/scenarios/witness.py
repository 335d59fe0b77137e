"""What an agent says of the conversation it sees, and its caller compares. Both import it, and nothing of each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def account(texts: list[str]) -> str:
    """Return what identifies a conversation by its texts."""
    return f"{len(texts)} items, {hashlib.sha256(json.dumps(texts).encode()).hexdigest()}"


def text_of(item: Mapping[str, Any]) -> str:
    content = item.get("content")
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content or [])
