"""No test reaches the network: connections and name look-ups beyond this machine raise.

`tests/conftest.py` installs the guard for pytest itself and puts this folder on PYTHONPATH, so that `sitecustomize.py`
installs it in every Python that a test starts, the notebooks' kernels among them.
"""

from __future__ import annotations

import errno
import ipaddress
import socket

attempts: list[str] = []  # what was tried, even where a library swallowed the error


class NetworkBlocked(OSError):
    """What a machine without a network would answer, with a plainer text."""

    def __init__(self, target: str) -> None:
        attempts.append(target)
        super().__init__(errno.ENETUNREACH, f"the tests run without a network, but something reached for {target}")


def is_local(host: object) -> bool:
    """Whether `host` is this machine: loopback, unspecified, or its own name."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or host in ("", "localhost", "localhost.localdomain", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_number(host: str) -> bool:
    """Whether `host` is an address in figures, which needs no look-up."""
    try:
        ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return True


def install() -> None:
    """Guard this process; a second call changes nothing."""
    if getattr(socket, "_course_guard", False):
        return
    socket._course_guard = True

    def guard_method(name: str, address_at: int) -> None:
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, *arguments: object) -> object:
            address = arguments[address_at] if arguments else None
            internet = self.family in (socket.AF_INET, socket.AF_INET6)
            if internet and isinstance(address, tuple) and not is_local(address[0]):
                raise NetworkBlocked(f"{address[0]}:{address[1]}")
            return original(self, *arguments)

        setattr(socket.socket, name, guarded)

    def guard_look_up(name: str) -> None:
        original = getattr(socket, name)

        def guarded(host: object, *arguments: object, **options: object) -> object:
            text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
            if isinstance(text, str) and not is_local(text) and not is_number(text):
                raise NetworkBlocked(text)
            return original(host, *arguments, **options)

        setattr(socket, name, guarded)

    guard_method("connect", 0)
    guard_method("connect_ex", 0)
    guard_method("sendto", -1)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        guard_look_up(name)
