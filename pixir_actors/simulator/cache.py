"""What the server remembers: the connection-local cache by the documented rule, and the store of `store: true`.

The rule (`previous_response_id` in the provider's WebSocket guide): a connection keeps its newest response only; an
error or a failure evicts what was referred to, and a turn that fails leaves nothing; all is gone with the connection.
Where providers differ, the strictest is played: any error or failure empties the cache, but for the answer that an
unknown id gets, which evicts nothing, as it referred to nothing.

Over HTTP a connection remembers nothing: only a stored response can be continued, and an error evicts nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Literal

Item = dict[str, Any]
CacheMode = Literal["latest", "all", "none"]
_LIMITS: Final[dict[CacheMode, int]] = {"latest": 1, "all": 1024, "none": 0}


@dataclass(frozen=True, slots=True)
class History:
    """The items of a conversation up to and including one response, and their made-up token count."""

    items: tuple[Item, ...] = ()
    tokens: int = 0


class ResponseCache:
    """Response id -> history, for one connection. At most one entry; with "all" the newest 1,024, with "none" none."""

    def __init__(self, mode: CacheMode = "latest") -> None:
        self._limit = _LIMITS[mode]
        self._entries: OrderedDict[str, History] = OrderedDict()

    def recall(self, response_id: str) -> History | None:
        """Return the history that ends with this response, or None when it is not cached."""
        return self._entries.get(response_id)

    def remember(self, response_id: str, history: History) -> None:
        """Cache a response; the oldest goes when there are too many."""
        self._entries[response_id] = history
        self._entries.move_to_end(response_id)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def evict(self, response_id: str | None = None) -> None:
        """Forget one response, or all."""
        if response_id is None:
            self._entries.clear()
        else:
            self._entries.pop(response_id, None)

    def fail(self, referred: str | None) -> None:
        """A turn ended in an error or a failure: forget what it referred to; a cache of one is emptied."""
        self.evict(None if self._limit == 1 else referred)


class ResponseStore(ResponseCache):
    """Responses created with `store: true`, for all connections of the server. The newest 1,024."""

    def __init__(self) -> None:
        super().__init__("all")
