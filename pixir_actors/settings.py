"""Every option, with its unit, its bounds and its default.

Pure: nothing here reads the environment, a clock or a file. Times are in seconds, sizes in bytes. `None` switches a limit
off, where it is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Self

from pixir_actors.errors import InvalidSettings
from pixir_actors.spelling import unknown

MIB: Final = 1024 * 1024
FOREVER: Final = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Seconds:
    """A duration in (0, 1 year]; `off` allows None."""

    off: bool = True
    least: float = 0.001

    def check(self, value: object) -> bool:
        if value is None:
            return self.off
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.least <= value <= FOREVER  # type: ignore[operator]

    def __str__(self) -> str:
        return f"a number of seconds from {self.least:g} to {FOREVER:.0f}" + (", or None for no limit" if self.off else "")


@dataclass(frozen=True, slots=True)
class _Count:
    """A whole number within [least, most]."""

    least: int
    most: int

    def check(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class _Age(_Seconds):
    def check(self, value: object) -> bool:
        return value == "auto" or _Seconds.check(self, value)

    def __str__(self) -> str:
        return '"auto" (by host), ' + _Seconds.__str__(self)


@dataclass(frozen=True, slots=True)
class _Text:
    def check(self, value: object) -> bool:
        return value is None or (isinstance(value, str) and 0 < len(value) <= 4096 and "\0" not in value)

    def __str__(self) -> str:
        return "a text of 1 to 4096 characters, or None"


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def check(self, value: object) -> bool:
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return " or ".join(f'"{word}"' for word in self.words)


@dataclass(frozen=True, slots=True)
class _Flag:
    def check(self, value: object) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "True or False"


ALLOWED: Final[dict[str, Any]] = {
    "connect_timeout": _Seconds(),
    "send_timeout": _Seconds(),
    "first_event_timeout": _Seconds(),
    "idle_timeout": _Seconds(),
    "queue_timeout": _Seconds(),
    "timeout": _Seconds(),
    "keepalive_interval": _Seconds(),
    "pong_timeout": _Seconds(),
    "idle_close_after": _Seconds(),
    "degraded_for": _Seconds(),
    "degraded_max": _Seconds(off=False),
    "max_connection_age": _Age(),
    "queue_limit": _Count(0, 10_000),
    "max_connections": _Count(1, 100_000),
    "max_request_bytes": _Count(1, 100 * MIB),  # an actor message has at most 128 MiB
    "max_message_bytes": _Count(1024, 1024 * MIB),
    "max_buffered_bytes": _Count(1024, 16 * 1024 * MIB),
    "ca_file": _Text(),
    "proxy": _Text(),
    "allow_plaintext": _Flag(),
    "identity": _Text(),
    "transport": _Choice(("websocket", "auto", "http")),
    "retry_ambiguous": _Flag(),
    "expose_keys": _Flag(),
}
"""What each field takes: the one place that says so, for the checks, the messages and the README's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options with their defaults; each may also be given per request and then wins.

    Raises:
        InvalidSettings: An option is unknown, or a value out of range; the error names the field, the value and what is
            allowed.
    """

    connect_timeout: float | None = 30.0
    """Seconds from the name look-up to the finished upgrade, as a whole."""
    send_timeout: float | None = 30.0
    """Seconds for writing one request to the socket."""
    first_event_timeout: float | None = 180.0
    """Seconds from the written request to the provider's first event. Pings do not count."""
    idle_timeout: float | None = 180.0
    """Seconds between two events. Pings do not count."""
    queue_timeout: float | None = None
    """Seconds a request may wait behind others of its key."""
    timeout: float | None = None
    """Seconds for the whole request, waiting included."""
    keepalive_interval: float | None = 25.0
    """Seconds of silence after which a ping is sent, or up to a hundredth earlier, between turns and during them."""
    pong_timeout: float | None = 20.0
    """Seconds after a ping within which any frame must arrive."""
    idle_close_after: float | None = 1800.0
    """Seconds without a request after which a connection and its process end."""
    degraded_for: float | None = 5.0
    """Seconds of the first degraded window after a failure; doubles with each further one. None: no window."""
    degraded_max: float = 60.0
    """Seconds the degraded window grows to at the most."""
    max_connection_age: float | Literal["auto"] | None = "auto"
    """Seconds after which a socket is replaced between two turns; "auto" follows the provider's own limit."""
    queue_limit: int = 16
    """Requests that may wait behind the running one of a key."""
    max_connections: int = 1000
    """Connections of one actor system; the longest idle one makes room for a new key."""
    max_request_bytes: int = 15 * MIB
    """Bytes of one request, as a full replay. Providers close with 1009 at 16 MiB."""
    max_message_bytes: int = 64 * MIB
    """Bytes of one message from the provider."""
    max_buffered_bytes: int = 64 * MIB
    """Bytes a caller may leave unread before its stream ends with `slow_consumer`."""
    ca_file: str | None = None
    """PEM file of certificate authorities to trust; None: $SSL_CERT_FILE or the system's."""
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy; None: from the environment of the calling process; "direct": none."""
    allow_plaintext: bool = False
    """Allow ws:// and http:// beyond loopback."""
    identity: str | None = None
    """Name of the account behind the bearer; a different one never shares a socket."""
    transport: Literal["websocket", "auto", "http"] = "websocket"
    """The way to the provider; "auto" goes over HTTP when the WebSocket is refused, and comes back."""
    retry_ambiguous: bool = False
    """Send once more, in full, when the socket or the connection broke after the write and before any event arrived."""
    expose_keys: bool = False
    """Show keys instead of their digest in status and process names."""

    def __new__(cls, *_: Any, **options: Any) -> Self:
        _check_names(options)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name in ALLOWED:
            _check(name, getattr(self, name))

    def override(self, options: dict[str, Any]) -> Settings:
        """Return these settings with `options` in their place.

        Raises:
            InvalidSettings: An option is unknown or out of range.
        """
        if not options:
            return self
        _check_names(options)
        return replace(self, **options)


def _check_names(options: Iterable[str]) -> None:
    for name in options:
        if name not in ALLOWED:
            # What was meant is unknown, so the value may be anything: `api_key=...` given in the wrong place.
            allowed = f"one of the options {', '.join(sorted(ALLOWED))}"
            raise InvalidSettings(name, "***", allowed, problem=unknown(name, ALLOWED))


def _check(name: str, value: object) -> None:
    allowed = ALLOWED[name]
    if not allowed.check(value):
        # A proxy URL may hold a password, so its value is not repeated.
        shown = "***" if name == "proxy" else value
        raise InvalidSettings(name, shown, str(allowed))


assert set(ALLOWED) == {f.name for f in fields(Settings)}
