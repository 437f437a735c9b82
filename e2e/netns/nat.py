"""Routers that translate addresses, where the kernel has none.

A home's: what goes out gets the router's address and a port, and only what answers it comes in. Each peer gets a port of its
own, as with the strictest of them. A cloud's: all of a public address is passed on to one machine, under the same ports; who
goes from there to that address comes back only while the file HAIRPIN is there.

As a program, `python3 nat.py FILE FILE home INSIDE OUTSIDE LOG` or `cloud INSIDE OUTSIDE HAIRPIN` translates between two open
tunnels; the first one is inside. The log has a line for each flow that began inside, `out PEER:PORT`, and for each packet
that nobody asked for, `no PEER:PORT`.
"""

import os
import select
import socket
import struct
import subprocess
import sys

import hosts
from link import tunnel

PACKET_BYTES_MAX = 1 << 16
FIRST_PORT = 40_000
TCP, UDP = 6, 17
# Where the checksum is, behind the IP header.
CHECKSUM_AT = {TCP: 16, UDP: 6}
FRAGMENT = 0x1FFF
# Which way a packet goes on.
IN, OUT = "in", "out"


def home(host, inside, log):
    """Puts a host behind a home router."""
    return _behind(host, inside, "home", log)


def cloud(host, inside, hairpin):
    """Puts a host behind a cloud's router."""
    return _behind(host, inside, "cloud", hairpin)


def _behind(host, inside, kind, file):
    """Puts a router in place of a host's cable: the host has the address `inside`, the router the host's. Returns the
    process that translates."""
    name, outside = hosts.port(host), hosts.ADDRESSES[host]
    hosts.ip("link", "del", name, at=hosts.ROUTER)
    ends = tunnel(host, "eth0"), tunnel(hosts.ROUTER, name)
    hosts.ip("link", "set", name, "multicast", "off", "up", at=hosts.ROUTER)
    hosts.ip("route", "add", f"{outside}/32", "dev", name, at=hosts.ROUTER)
    hosts.ip("address", "add", f"{inside}/32", "dev", "eth0", at=host)
    hosts.ip("link", "set", "eth0", "multicast", "off", "up", at=host)
    hosts.ip("route", "add", hosts.NETWORK, "dev", "eth0", at=host)
    command = [sys.executable, __file__, *map(str, ends), kind, inside, outside, str(file)]
    process = subprocess.Popen(command, pass_fds=ends)
    for end in ends:
        os.close(end)
    return process


def adjusted(checksum, old, new):
    """A checksum when some of the 16-bit words that it covers change (RFC 1624)."""
    total = ~checksum & 0xFFFF
    for word in struct.unpack(f"!{len(old) // 2}H", old):
        total += ~word & 0xFFFF
    for word in struct.unpack(f"!{len(new) // 2}H", new):
        total += word
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Packet:
    """An IPv4 packet of TCP or UDP."""

    def __init__(self, raw):
        self.raw = bytearray(raw)
        self.head = (raw[0] & 15) * 4
        self.protocol = raw[9]
        (fragment,) = struct.unpack_from("!H", raw, 6)
        self.is_known = raw[0] >> 4 == 4 and self.protocol in CHECKSUM_AT and not fragment & FRAGMENT
        if self.is_known:
            self.source = bytes(raw[12:16]), *struct.unpack_from("!H", raw, self.head)
            self.target = bytes(raw[16:20]), *struct.unpack_from("!H", raw, self.head + 2)

    def rewrite(self, address_at, port_at, place):
        """Puts an address and a port in the place of what is there, with the sums."""
        address, port = place[0], struct.pack("!H", place[1])
        old = bytes(self.raw[address_at : address_at + 4]), bytes(self.raw[port_at : port_at + 2])
        self.raw[address_at : address_at + 4], self.raw[port_at : port_at + 2] = address, port
        self._sum(10, old[0], address)
        at = self.head + CHECKSUM_AT[self.protocol]
        # A UDP packet may have none.
        if self.protocol == TCP or any(self.raw[at : at + 2]):
            self._sum(at, old[0] + old[1], address + port)

    def _sum(self, at, old, new):
        (before,) = struct.unpack_from("!H", self.raw, at)
        struct.pack_into("!H", self.raw, at, adjusted(before, old, new))

    def leaves_from(self, place):
        self.rewrite(12, self.head, place)

    def goes_to(self, place):
        self.rewrite(16, self.head + 2, place)


class Cloud:
    """An address that is one machine's."""

    def __init__(self, inside, outside, hairpin):
        self.inside, self.outside, self.hairpin = inside, outside, hairpin

    def out(self, packet):
        is_own = packet.target[0] == self.outside
        if is_own and not os.path.exists(self.hairpin):
            return None
        packet.leaves_from((self.outside, packet.source[1]))
        return self.back(packet) if is_own else (OUT, packet.raw)

    def back(self, packet):
        packet.goes_to((self.inside, packet.target[1]))
        return IN, packet.raw


class Home:
    """Who speaks to whom, and through which port."""

    def __init__(self, outside, log):
        self.outside, self.log = outside, log
        self.ports, self.flows, self.refused = {}, {}, set()

    def out(self, packet):
        key = packet.protocol, packet.source, packet.target
        if key not in self.ports:
            port = FIRST_PORT + len(self.ports)
            self.ports[key] = port
            self.flows[packet.protocol, port, packet.target] = packet.source
            self._note("out", packet.target)
        packet.leaves_from((self.outside, self.ports[key]))
        return OUT, packet.raw

    def back(self, packet):
        inside = self.flows.get((packet.protocol, packet.target[1], packet.source))
        if inside is None:
            if packet.source not in self.refused:
                self.refused.add(packet.source)
                self._note("no", packet.source)
            return None
        packet.goes_to(inside)
        return IN, packet.raw

    def _note(self, what, peer):
        print(f"{what} {socket.inet_ntoa(peer[0])}:{peer[1]}", file=self.log, flush=True)


def translate(inside, outside, router):
    ends = {IN: inside, OUT: outside}
    while True:
        for end in select.select([inside, outside], [], [])[0]:
            try:
                packet = Packet(os.read(end, PACKET_BYTES_MAX))
                passed = packet.is_known and (router.out(packet) if end == inside else router.back(packet))
                if passed:
                    os.write(ends[passed[0]], passed[1])
            except BlockingIOError:
                pass  # as a full queue does


if __name__ == "__main__":
    ends, kind, file = map(int, sys.argv[1:3]), sys.argv[3], sys.argv[6]
    inside, outside = map(socket.inet_aton, sys.argv[4:6])
    if kind == "cloud":
        translate(*ends, Cloud(inside, outside, file))
    with open(file, "w") as log:
        translate(*ends, Home(outside, log))
