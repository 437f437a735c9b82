"""The least that a relay can do: datagrams there and back, over a socket of its own for each way.

`raw.py HOST` echoes; `raw.py HOST ADDRESS PORT` hands on to there. The first line is the port.
"""

import select
import socket
import sys

PACKET_BYTES_MAX = 1 << 16

near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
near.bind((sys.argv[1], 0))
print(near.getsockname()[1], flush=True)
if len(sys.argv) == 2:
    while True:
        packet, peer = near.recvfrom(PACKET_BYTES_MAX)
        near.sendto(packet, peer)
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.connect((sys.argv[2], int(sys.argv[3])))
peer = None
while True:
    for end in select.select([near, far], [], [])[0]:
        if end is near:
            packet, peer = near.recvfrom(PACKET_BYTES_MAX)
            far.send(packet)
        else:
            near.sendto(far.recv(PACKET_BYTES_MAX), peer)
