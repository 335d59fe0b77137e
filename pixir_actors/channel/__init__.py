"""The event channel: a Unix stream socket over which a connection actor sends what a caller receives.

    connection actor, process A                         client process, process B
    sender.Sender  ──── frames, in order ────►  listener.Listener ──► inbox.Inbox ──► consumer
                   ◄─── HELLO, once ─────────   (one thread)          (one per request)

    frame.py      PURE  the frames: encode, incremental decode, payloads
    sender.py     the connection actor's end; never blocks, no thread
    listener.py   the client's end: sockets and the one thread that reads them
    exchange.py   which frame goes to which inbox, who is lost with a channel, when a channel is left unread
    inbox.py      where a consumer waits for the frames of one request
    line.py       one accepted socket, and what is still to be written to it
    local.py      the socket's directory, and whose process the peer is

No Thespian, no policy, and no payload is ever logged.
"""

from pixir_actors.channel.exchange import ListenerClosed
from pixir_actors.channel.frame import ChannelProtocolError, Frame, FrameType
from pixir_actors.channel.inbox import ChannelLost, Inbox, InboxClosed, Loss
from pixir_actors.channel.listener import Listener
from pixir_actors.channel.sender import ChannelUnavailable, Sender

__all__ = [
    "ChannelLost",
    "ChannelProtocolError",
    "ChannelUnavailable",
    "Frame",
    "FrameType",
    "Inbox",
    "InboxClosed",
    "Listener",
    "ListenerClosed",
    "Loss",
    "Sender",
]
