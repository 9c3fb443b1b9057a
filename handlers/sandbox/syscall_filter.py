"""A seccomp filter that allows a process only memory, its open channel, time and reading of files.

It is an allow-list: every other system call fails with EPERM. Knows numbers of system calls on x86_64 and
aarch64, and assembles classic BPF; nothing of checks.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator, Mapping

from handlers.sandbox.kernel import call, prctl

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SECCOMP, SECCOMP_GET_ACTION_AVAIL = (317, 277), 2
RET_ALLOW, RET_ERRNO, RET_KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM = 1
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16

Numbers = tuple[int | None, int | None]
"""Numbers of one system call on x86_64 and on aarch64, which lacks the older calls."""

PLAIN: Mapping[str, Numbers] = {
    # Reading, and writing to the only open file, the channel.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "preadv": (295, 69), "close": (3, 57), "close_range": (436, 436), "lseek": (8, 62), "dup": (32, 23),
    "fstat": (5, 80), "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None),
    "readlinkat": (267, 78), "getdents": (78, None), "getdents64": (217, 61), "getcwd": (79, 17),
    "statfs": (137, 43), "fstatfs": (138, 44), "fadvise64": (221, 223), "sendto": (44, 206),
    "recvfrom": (45, 207), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    # Memory.
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "brk": (12, 214), "mincore": (27, 232), "membarrier": (324, 283),
    # The process's own signals, locks and thread.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "rt_sigpending": (127, 136), "restart_syscall": (219, 128), "futex": (202, 98),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "set_tid_address": (218, 96),
    "rseq": (334, 293), "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    "arch_prctl": (158, None), "exit": (60, 93), "exit_group": (231, 94),
    # Facts of the process and the machine, random numbers and time.
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "getrandom": (318, 278), "uname": (63, 160),
    "sysinfo": (99, 179), "getrusage": (98, 165), "times": (100, 153), "getrlimit": (97, 163),
    "time": (201, None), "gettimeofday": (96, 169), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "getitimer": (36, 102), "setitimer": (38, 103),
}  # fmt: skip
OPENING: Mapping[str, tuple[Numbers, int]] = {"open": ((2, None), 1), "openat": ((257, 56), 2)}
"""Calls that open a file, each with the index of its flags among the arguments."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # O_TMPFILE
FCNTL: Numbers = (72, 25)
FCNTL_COMMANDS = (1, 2, 3, 1030)
"""F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC: other commands can make the kernel send signals."""
PRLIMIT: Numbers = (302, 261)
_AT = {"x86_64": 0, "aarch64": 1}


def lacking() -> str | None:
    """The reason why this machine cannot use the filter; None if it can."""
    machine = platform.machine()
    if machine not in AUDIT_ARCH:
        return f"there is no seccomp filter for {machine}"
    action = ctypes.c_uint32(RET_ERRNO)
    known = call(SECCOMP[_AT[machine]], SECCOMP_GET_ACTION_AVAIL, 0, ctypes.addressof(action)) == 0
    return None if known else "the kernel does not support seccomp filters"


def program(machine: str) -> bytes:
    """The filter for `machine` as instructions of the kernel's format."""
    return b"".join(struct.pack("=HBBI", *one) for one in _instructions(machine))


def install() -> None:
    """Installs the filter for this thread permanently; OSError if the kernel refuses.

    Requires no-new-privileges.
    """
    code = program(platform.machine())
    held = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    place = ctypes.create_string_buffer(head, len(head))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(place))


def _instructions(machine: str) -> Iterator[tuple[int, int, int, int]]:
    at = _AT[machine]
    yield LOAD, 0, 0, ARCH_AT
    yield EQUAL, 1, 0, AUDIT_ARCH[machine]
    yield RETURN, 0, 0, RET_KILL
    yield LOAD, 0, 0, NUMBER_AT
    for numbers in PLAIN.values():
        if (number := numbers[at]) is not None:
            yield EQUAL, 0, 1, number
            yield RETURN, 0, 0, RET_ALLOW
    for numbers, place in OPENING.values():
        if (number := numbers[at]) is not None:
            yield EQUAL, 0, 4, number
            yield LOAD, 0, 0, _low(place)
            yield ANY_BIT, 0, 1, WRITING
            yield RETURN, 0, 0, RET_ERRNO | EPERM
            yield RETURN, 0, 0, RET_ALLOW
    number = FCNTL[at]
    assert number is not None
    yield EQUAL, 0, 2 + 2 * len(FCNTL_COMMANDS), number
    yield LOAD, 0, 0, _low(1)
    for command in FCNTL_COMMANDS:
        yield EQUAL, 0, 1, command
        yield RETURN, 0, 0, RET_ALLOW
    yield RETURN, 0, 0, RET_ERRNO | EPERM
    number = PRLIMIT[at]
    assert number is not None
    # Reading a limit is allowed: the pointer to a new limit is 0.
    yield EQUAL, 0, 5, number
    yield LOAD, 0, 0, _low(2)
    yield EQUAL, 0, 3, 0
    yield LOAD, 0, 0, _low(2) + 4
    yield EQUAL, 0, 1, 0
    yield RETURN, 0, 0, RET_ALLOW
    yield RETURN, 0, 0, RET_ERRNO | EPERM


def _low(argument: int) -> int:
    """The offset of the lower half of an argument; both architectures are little-endian."""
    return ARGUMENTS_AT + 8 * argument
