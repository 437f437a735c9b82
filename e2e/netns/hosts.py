"""Hosts behind one router: a network namespace each. They know the way to each other, and no other way."""

import ctypes
import os
import socket
import subprocess
import threading

# Where each host is. The trap is what stands where others have a name server and a way out: it hears and never answers.
ADDRESSES = {
    "chain": "10.88.10.2",
    "consumer": "10.88.20.2",
    "relay1": "10.88.31.2",
    "relay2": "10.88.32.2",
    "relay3": "10.88.33.2",
    "provider": "10.88.40.2",
    "trap": "10.88.66.2",
}
ROUTER = "router"
NETWORK = "10.88.0.0/16"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_own = f"lethe{os.getpid()}"


def space(host):
    return f"{_own}-{host}"


def port(host):
    """The router's end of a host's cable."""
    return f"to-{host}"


def gate(host):
    """The router's address there."""
    return ADDRESSES[host].rsplit(".", 1)[0] + ".1"


def ip(*arguments, at=None):
    command = ["ip", *(["-n", space(at)] if at else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def build():
    for host in [ROUTER, *ADDRESSES]:
        ip("netns", "add", space(host))
        # Neighbour and router discovery of an unused IPv6 would be noise.
        inside(host, lambda: _write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"))
        inside(host, lambda: _write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
        ip("link", "set", "lo", "up", at=host)
    inside(ROUTER, lambda: _write("/proc/sys/net/ipv4/ip_forward", "1"))
    for host, address in ADDRESSES.items():
        ip("link", "add", port(host), "type", "veth", "peer", "name", "eth0", "netns", space(host), at=ROUTER)
        # What is captured is what would cross a real wire: no packets glued together.
        ip("link", "set", "eth0", "gso_max_segs", "1", at=host)
        ip("address", "add", f"{address}/24", "dev", "eth0", at=host)
        ip("link", "set", "eth0", "multicast", "off", "up", at=host)
        ip("address", "add", f"{gate(host)}/24", "dev", port(host), at=ROUTER)
        ip("link", "set", port(host), "multicast", "off", "up", at=ROUTER)
        ip("route", "add", NETWORK, "via", gate(host), at=host)
    ip("route", "add", "default", "via", ADDRESSES["trap"], at=ROUTER)


def remove():
    for host in [*ADDRESSES, ROUTER]:
        subprocess.run(["ip", "netns", "del", space(host)], capture_output=True)


def way_out(host):
    """Gives a host a default route; it leads into the trap."""
    ip("route", "add", "default", "via", gate(host), at=host)


def routes(host):
    return ip("route", "show", at=host)


def sent_bytes(host):
    """What a host put on its cable so far."""
    return int(inside(ROUTER, lambda: _read("/proc/thread-self/net/dev")).split(port(host) + ":")[1].split()[0])


def inside(host, function):
    """Calls the function on a thread that is on this host; what it opens stays there."""
    result = {}

    def run():
        try:
            with open(f"/run/netns/{space(host)}") as file:
                if _libc.setns(file.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {host}")
            result["value"] = function()
        except BaseException as error:
            result["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if "error" in result:
        raise result["error"]
    return result["value"]


def on(host, command):
    """The command line that runs on this host, and asks the trap for names."""
    resolv = f"/run/{_own}-resolv.conf"
    _write(resolv, f"nameserver {ADDRESSES['trap']}\n")
    # A mount of its own: the machine's file stays as it is.
    script = f"mount --bind {resolv} /etc/resolv.conf && exec \"$@\""
    return ["ip", "netns", "exec", space(host), "sh", "-c", script, "sh", *map(str, command)]


def forget():
    try:
        os.unlink(f"/run/{_own}-resolv.conf")
    except FileNotFoundError:
        pass


def raw_socket(host):
    """A socket that sees every packet of a host's interfaces."""
    return inside(host, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))


def _read(path):
    with open(path) as file:
        return file.read()


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)
