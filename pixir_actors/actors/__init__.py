"""The actors: thin shells over `core` and `transport`, and the messages they understand (`messages`).

The supervisor knows which connection serves which key; a connection actor owns one socket. Neither decides anything that
`core` could decide.
"""
