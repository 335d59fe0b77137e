"""The client's half of the way to the actors: links into a system, connections by key, calls.

Where the actor system says what went wrong in messages, here it becomes an exception again.
"""
