"""The admin daemon: one protected actor system that every program of a host shares.

    daemon     its program: start, publish, watch over, start anew, drain
    log_director  kills a log director that is stopped
    heart      whether the actor system answers; runs in a thread of its own
    detached   the same program as nobody's child

Where its files are, how it is started from elsewhere and how a client finds it stands in `system` (places, launch,
runtime, cookie) and `dispatch.attached`.
"""
