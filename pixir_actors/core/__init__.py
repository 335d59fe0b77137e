"""Decisions, and nothing else: no socket, clock, randomness, thread, logging or Thespian is touched from in here.

Time (`now`, monotonic seconds) and chance (`jitter`, in [0, 1)) are arguments; what should happen in the world is returned
as values. So every rule of this package can be tested in a table.
"""
