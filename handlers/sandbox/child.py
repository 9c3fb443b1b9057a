"""The parent's side of one confined child: sends a line, reads a line, and ends the child.

Knows bytes, signals and deadlines. The child's side is `handlers.sandbox.template_process`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time

from handlers.cpu_account import charge

SLOW_S = 0.25
"""Seconds of processor time after which a check gets the lowest priority.

Ordinary checks take milliseconds.
"""
POLITENESS = 5
_PROCESSOR_CLOCK = 2
"""The kernel's number of the clock for a process's processor time."""
MOST_REPLY = 32 * 2**20
_BLOCK = 2**18
_LEAST_SLEEP_S = 0.02


class ChildEnded(Exception):
    """The child ended before it answered; `at_limit` is True if it had used up its limits."""

    def __init__(self, *, at_limit: bool) -> None:
        super().__init__("the child exited before it answered")
        self.at_limit = at_limit


class Child:
    """A child that is ready; `knows` names the engines whose libraries it has loaded."""

    def __init__(self, channel: socket.socket, pid: int, knows: frozenset[str]) -> None:
        self.knows = knows
        self.is_slow = False
        self.checks = 0
        self._channel = channel
        self._pid = pid
        # By its pid alone a signal could reach another process after this one has ended.
        self._handle = os.pidfd_open(pid)

    async def ask(self, line: bytes, cpu_s: float, wall_s: float) -> bytes:
        """The answer to `line`.

        ChildEnded if there is none within `wall_s` seconds, or the kernel ended the child. Without an answer,
        also after a cancel, the child is ended.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        aside = asyncio.create_task(self._step_aside())
        answer: bytes | None = None
        try:
            used = self._processor_time()
            async with asyncio.timeout(wall_s):
                await loop.sock_sendall(self._channel, line)
                answer = await read_line(self._channel, MOST_REPLY)
            with contextlib.suppress(OSError):  # it has ended since
                charge(self._processor_time() - used)
            return answer
        except TimeoutError:
            raise ChildEnded(at_limit=True) from None
        except OSError:
            # Processor time is never more than wall time: a child that ended sooner did not reach its limit.
            raise ChildEnded(at_limit=loop.time() - started >= cpu_s) from None
        finally:
            aside.cancel()
            if answer is None:
                charge(min(cpu_s, loop.time() - started))  # a child that is ended cannot tell what it used
                self.end()

    def end(self) -> None:
        """Ends the child in any state; a second call does nothing."""
        if self._handle < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        os.close(self._handle)
        self._handle = -1
        self._channel.close()

    async def _step_aside(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            until = self._processor_time() + SLOW_S
            while (left := until - self._processor_time()) > 0:
                await asyncio.sleep(max(left, _LEAST_SLEEP_S))
            self.is_slow = True
            os.setpriority(os.PRIO_PROCESS, self._pid, POLITENESS)

    def _processor_time(self) -> float:
        return time.clock_gettime((~self._pid << 3) | _PROCESSOR_CLOCK)


async def read_line(channel: socket.socket, most: int) -> bytes:
    """The bytes up to the end of a line.

    OSError if the other side ends first, or writes more than `most` bytes.
    """
    loop = asyncio.get_running_loop()
    line = bytearray()
    while not line.endswith(b"\n"):
        block = await loop.sock_recv(channel, _BLOCK)
        line += block
        if not block or len(line) > most:
            raise ConnectionResetError("the channel closed in the middle of a line")
    return bytes(line)
