"""The version, alone in a file: reading it imports nothing else (setup.cfg reads it from here)."""

__version__ = "0.1.0"
