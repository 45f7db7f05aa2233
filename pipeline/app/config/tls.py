"""A certificate and its key, as PEM files: looked at when a config is checked, used when the server begins."""

from __future__ import annotations

import os
import ssl

from pipeline.core.errors import InputError

_LARGEST = 1 << 20


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and later. Raises `InputError` whose place is `certificate` or `key`."""
    chain, private = os.path.expanduser(certificate), os.path.expanduser(key)
    _look(chain, "certificate", b"CERTIFICATE-----", "no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    _look(private, "key", b"PRIVATE KEY-----", "no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    locked = False

    def nobody_types_it() -> str:
        nonlocal locked
        locked = True
        return ""

    try:
        context.load_cert_chain(chain, private, nobody_types_it)
    except ssl.SSLError as error:
        if locked:
            raise InputError(f"{key} is locked with a password: give one without", "key") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"{key} does not belong to the first certificate in {certificate}", "key") from None
        place, name = ("certificate", certificate) if _is_wrong(chain) else ("key", key)
        raise InputError(f"{name} cannot be read as PEM: {error.reason or 'it is damaged'}", place) from None
    except ValueError as error:  # an empty password, where there is one
        raise InputError(f"{key}: {error}", "key") from None
    return context


def _look(path: str, place: str, mark: bytes, lacking: str) -> None:
    try:
        with open(path, "rb") as file:
            if mark not in file.read(_LARGEST):
                raise InputError(f"{path} holds {lacking}", place)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", place) from None
    except ValueError:
        raise InputError("this is no path", place) from None


def _is_wrong(chain: str) -> bool:
    """Whether it is the chain, and not the key, that cannot be read."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(chain)
    except ssl.SSLError:
        return True
    return False
