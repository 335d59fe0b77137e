"""Warm WebSocket connections to Responses APIs, one actor per conversation.

A provider in WebSocket mode remembers the newest response of a socket, so a client that stays on it sends only what is
new. This package keeps the socket of each conversation key in an actor process of its own, decides on proof between delta
and full replay, and survives what goes wrong in between.

    client, stream      what a program uses
    aio                 the same for event loops
    request, settings, events, errors, status    its words: pure values
    dispatch            from a key to its connection, from a request to its events
    system              how an actor system is started, joined and protected
    actors              supervisor and connection actors, and their messages
    channel             the local socket on which events come back
    transport           the sockets to providers
    core                every decision, pure: start reading at core.lifecycle
    simulator           a scriptable server with faults and a history oracle, for tests
"""

from pixir_actors.aio import AsyncClient, AsyncStream
from pixir_actors.client import Client
from pixir_actors.errors import (
    AdminAlreadyRunning,
    AdminMismatch,
    AdminNotRunning,
    CookieUnusable,
    Delivery,
    ErrorCode,
    InvalidRequest,
    InvalidSettings,
    PixirError,
    ProviderError,
    StreamError,
    SystemStartFailed,
    WrongProcess,
)
from pixir_actors.events import Data, Event, Metadata, Status
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from pixir_actors.status import ConnectionStatus, SystemStatus
from pixir_actors.stream import Stream
from pixir_actors.version import __version__

__all__ = [
    "AdminAlreadyRunning",
    "AdminMismatch",
    "AdminNotRunning",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ConnectionStatus",
    "CookieUnusable",
    "Data",
    "Delivery",
    "ErrorCode",
    "Event",
    "InvalidRequest",
    "InvalidSettings",
    "Metadata",
    "PixirError",
    "ProviderError",
    "Request",
    "Settings",
    "Status",
    "Stream",
    "StreamError",
    "SystemStartFailed",
    "SystemStatus",
    "WrongProcess",
    "__version__",
]
