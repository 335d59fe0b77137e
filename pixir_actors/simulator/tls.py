"""A certificate authority of the simulator's own, made anew for each."""

from __future__ import annotations

import os
import ssl
import tempfile


class Authority:
    """A server context for `localhost` and 127.0.0.1, and a temporary file with the authority that signed it.

    Raises:
        ImportError: The package `trustme` (extra `simulator`) is missing.
    """

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError as error:
            raise ImportError("Simulator(tls=True) needs trustme: pip install 'pixir_actors[simulator]'") from error
        authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)
        descriptor, self.ca_file = tempfile.mkstemp(prefix="simulator-ca-", suffix=".pem")
        with os.fdopen(descriptor, "wb") as file:
            file.write(authority.cert_pem.bytes())

    def close(self) -> None:
        """Remove the file. May be called again."""
        if os.path.exists(self.ca_file):
            os.unlink(self.ca_file)
