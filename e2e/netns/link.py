"""A link that takes its time, where the kernel has none: two tunnels' ends, and packets that wait in between.

As a program, `python3 link.py FILE FILE SECONDS` hands on between two open tunnels.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

import hosts

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
PACKET_BYTES_MAX = 1 << 16
HELD_MAX = 100_000


def tunnel(host, name):
    """One end of a tunnel, as a network device of a host."""

    def make():
        file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        return file

    return hosts.inside(host, make)


def slow(host, seconds):
    """Puts a host behind a link that takes so long each way, in place of its cable. Returns the process that carries."""
    name, address = hosts.port(host), hosts.ADDRESSES[host]
    hosts.ip("link", "del", name, at=hosts.ROUTER)
    ends = tunnel(hosts.ROUTER, name), tunnel(host, "eth0")
    hosts.ip("link", "set", name, "multicast", "off", "up", at=hosts.ROUTER)
    hosts.ip("route", "add", f"{address}/32", "dev", name, at=hosts.ROUTER)
    hosts.ip("address", "add", f"{address}/32", "dev", "eth0", at=host)
    hosts.ip("link", "set", "eth0", "multicast", "off", "up", at=host)
    hosts.ip("route", "add", hosts.NETWORK, "dev", "eth0", at=host)
    process = subprocess.Popen([sys.executable, __file__, *map(str, ends), str(seconds)], pass_fds=ends)
    for end in ends:
        os.close(end)
    return process


def carry(ends, seconds):
    """The delay is the same for all, so they leave in the order in which they came."""
    other = dict(zip(ends, reversed(ends)))
    held = collections.deque()
    while True:
        wait = held[0][0] - time.monotonic() if held else None
        for end in select.select(ends, [], [], None if wait is None else max(wait, 0))[0]:
            due = time.monotonic() + seconds
            try:
                while len(held) < HELD_MAX:
                    held.append((due, other[end], os.read(end, PACKET_BYTES_MAX)))
            except BlockingIOError:
                pass
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, end, packet = held.popleft()
            try:
                os.write(end, packet)
            except BlockingIOError:
                pass  # as a full queue does


if __name__ == "__main__":
    carry((int(sys.argv[1]), int(sys.argv[2])), float(sys.argv[3]))
