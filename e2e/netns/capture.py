"""Captures packets, and reads what was captured.

As a program, `ip netns exec SPACE python3 capture.py FOLDER` writes each interface's packets to FOLDER/INTERFACE.pcap
until it is told to end; its last line says how many packets there were and how many it missed.
"""

import collections
import ipaddress
import json
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
BUFFER_BYTES = 256 * 1024 * 1024
PACKET_BYTES_MAX = 1 << 17
FILE_HEAD = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, PACKET_BYTES_MAX, 1)
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
TCP, UDP = 6, 17

Packet = collections.namedtuple("Packet", "at ethertype source target protocol ports payload length frame")


def capture(folder):
    catcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    catcher.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    catcher.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    files, count, ends = {}, 0, float("inf")

    def stop(*_):
        nonlocal ends
        ends = time.time()

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    catcher.settimeout(0.2)
    while True:
        try:
            frame, told, _, (name, *_) = catcher.recvmsg(PACKET_BYTES_MAX, 64)
        except TimeoutError:
            if ends < time.time():
                break
            continue
        seconds, nanos = struct.unpack("=qq", told[0][2])
        # What came before the end and still waits is written down.
        if seconds + nanos / 1e9 > ends:
            break
        if name not in files:
            files[name] = open(folder / f"{name}.pcap", "wb")
            files[name].write(FILE_HEAD)
        files[name].write(struct.pack("<IIII", seconds, nanos, len(frame), len(frame)) + frame)
        count += 1
    for file in files.values():
        file.close()
    _, missed = struct.unpack("=II", catcher.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    print(json.dumps({"packets": count, "missed": missed}), flush=True)


class Capture:
    """A capture that runs; within `with`."""

    def __init__(self, space, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        command = ["ip", "netns", "exec", space, sys.executable, __file__, str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the capture does not start")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        said = self.process.stdout.read()
        self.process.wait()
        self.packets, self.missed = (json.loads(said)[name] for name in ("packets", "missed"))

    def interfaces(self):
        return sorted(path.stem for path in self.folder.glob("*.pcap"))

    def of(self, interface):
        """The packets of one interface."""
        path = self.folder / f"{interface}.pcap"
        return list(packets(path.read_bytes())) if path.exists() else []

    def bytes_of(self, interface):
        """All that can be searched: the packets as they were, and what each direction of each flow said in one piece."""
        found = self.of(interface)
        flows = collections.defaultdict(list)
        for packet in found:
            flows[packet.source, packet.target, packet.protocol, packet.ports].append(packet.payload)
        return b"".join([b"".join(flow) + b"\0" * 8 for flow in flows.values()] + [packet.frame for packet in found])


def packets(raw):
    at = len(FILE_HEAD)
    while at < len(raw):
        seconds, nanos, length, _ = struct.unpack_from("<IIII", raw, at)
        at += 16
        yield read(seconds + nanos / 1e9, raw[at : at + length])
        at += length


def read(at, frame):
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    source = target = protocol = ports = None
    payload = frame[14:]
    if ethertype == IPV4:
        head = (frame[14] & 15) * 4
        (total,) = struct.unpack_from("!H", frame, 16)
        protocol = frame[23]
        source, target = (str(ipaddress.IPv4Address(frame[i : i + 4])) for i in (26, 30))
        payload = frame[14 + head : 14 + total]
        if protocol in (TCP, UDP):
            ports = struct.unpack_from("!HH", payload)
            payload = payload[(payload[12] >> 4) * 4 if protocol == TCP else 8 :]
    elif ethertype == IPV6:
        protocol = frame[20]
        source, target = (str(ipaddress.IPv6Address(frame[i : i + 16])) for i in (22, 38))
    elif ethertype == ARP:
        source, target = (str(ipaddress.IPv4Address(frame[i : i + 4])) for i in (28, 38))
    return Packet(at, ethertype, source, target, protocol, ports, payload, len(frame), frame)


if __name__ == "__main__":
    capture(pathlib.Path(sys.argv[1]))
