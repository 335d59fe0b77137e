"""Sockets to providers. No Thespian and no policy in here: what a fault means is decided in `core/`."""
