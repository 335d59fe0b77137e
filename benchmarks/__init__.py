"""What it costs (`design.md` section 7): `make bench`."""
