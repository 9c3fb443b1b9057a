"""The gateway's TCP socket, bound before anything is started; errors are one line that names the cure."""

from __future__ import annotations

import errno
import resource
import socket

import psutil

from conductor_admin.http.middleware import HostPolicy
from conductor_core.operator import LOOPBACK
from conductor_core.run_file import StartError

_OTHER_FILES = 256
"""Open files of a gateway besides connections: logs, sockets of TorchServe and of workers, pipes."""

_UNSENT_BYTES = 128 * 2**10
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})


def host_policy(host: str) -> HostPolicy:
    """The names by which clients may call a gateway on `host`."""
    if host in _EVERYWHERE:
        return HostPolicy(LOOPBACK | {socket.gethostname().lower()}, any_address=True)
    return HostPolicy(LOOPBACK | {host.lower()})


def is_private(host: str) -> bool:
    """True if only this machine reaches a gateway on `host`."""
    return host in LOOPBACK


def check_open(host: str, has_key: bool) -> None:
    """Raise StartError for a `host` that other machines reach while there is no key."""
    if not is_private(host) and not has_key:
        raise StartError(
            f"--host {host} would let anyone on the network use the models; create a key first: "
            "conductor keys create NAME --scope infer --scope admin (or set CONDUCTOR_CREATE_KEY=1)"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises StartError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StartError(f"--host {host} is not an address of this machine: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection; an unread one would fill 3 MB of the kernel's memory.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartError(_refusal(host, port, error)) from error
    listener.setblocking(False)
    return listener


def most_connections() -> int:
    """Raise the limit of open files; return the most connections, each with one to a worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(16, (wanted - _OTHER_FILES) // 2)


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
    pid = _holder(port)
    by = f" by pid {pid}" if pid else ""
    return f"port {port} is in use{by}: stop that process, or choose another port with --port"


def _holder(port: int) -> int | None:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    listening = (
        c for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
    )
    return next((c.pid for c in listening if c.pid), None)


def url_of(host: str, port: int) -> str:
    """URL by which a client on this machine reaches the gateway."""
    shown = "127.0.0.1" if host in _EVERYWHERE else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
