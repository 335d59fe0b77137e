"""The TLS side of a connection: who is trusted."""

from __future__ import annotations

import ssl

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that verifies the certificate and the host name, TLS 1.2 and up.

    `ssl.create_default_context` is not used: it would write the session keys to the file that $SSLKEYLOGFILE names.

    Args:
        ca_file: PEM file of the only authorities to trust, or None for OpenSSL's defaults.

    Raises:
        Refused: The file is missing, cannot be read or holds no certificate (reason "ca_file").
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Refused(Fault(ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": "ca_file", "step": "tls"})) from error
    return context
