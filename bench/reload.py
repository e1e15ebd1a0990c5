"""`python -m bench.reload`: how long a reload holds requests up, beside the same time without one.

A service with many routes and many live connections is reloaded a few times; every time all its routes are others. A
client sends one small request after the other over kept connections meanwhile, and notes how long each answer took.
What the machine does to the figures shows in the line without a reload.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from bench.peers import dcrouter_command
from bench.place import free_port
from bench.process import private_kib, raise_descriptor_limit
from dcrouter.admin.client import ApiError, ask

PROBES = 8
"""Kept connections that requests go over in turn."""


def configuration(routes: int, turn: int, ports: dict[str, int]) -> str:
    """`turn`: makes every route another one."""
    lines = ["version: 1", 'listen: ["127.0.0.1"]', f"defaults: {{timeouts: {{idle: {60 + turn}m}}}}", "routes:"]
    lines += [
        f"  - {{name: echo, match: {{ports: {ports['echo']}}}, "
        f"action: {{type: forward, target: {{host: 127.0.0.1, port: {ports['backend']}}}}}}}"
    ]
    for number in range(routes):
        lines += [
            f"  - name: r{number}",
            f"    match: {{ports: {ports['tls']}, domains: [h{number}.example.test]}}",
            "    tls: {mode: passthrough}",
            f"    action: {{type: forward, target: {{host: 127.0.0.1, port: {ports['backend']}}}}}",
        ]
    return "\n".join(lines) + "\n"


def serve(listener: socket.socket) -> None:
    """A backend that echoes, in a process of its own."""
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
                continue
            try:
                data = clients[fd].recv(65536)
            except OSError:
                data = b""
            if data:
                clients[fd].sendall(data)
            else:
                clients.pop(fd).close()


class Probe(threading.Thread):
    """Requests one after the other until `over`; `times`: seconds that each took. Raises nothing: see `broken`."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(PROBES)]
        self.times: list[float] = []
        self.broken = 0
        self.over = threading.Event()

    def run(self) -> None:
        for client in self.clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(30)
        while not self.over.is_set():
            for client in self.clients:
                began = time.perf_counter()
                try:
                    client.sendall(b"request\n")
                    self.broken += client.recv(100) != b"request\n"
                except OSError:
                    self.broken += 1
                    return
                self.times.append(time.perf_counter() - began)


def figures(times: Iterable[float]) -> str:
    """In milliseconds."""
    order = sorted(times)
    at = [order[min(int(len(order) * share), len(order) - 1)] * 1000 for share in (0.5, 0.99, 0.999)]
    parts = f"p50 {at[0]:.2f} ms, p99 {at[1]:.2f}, p99.9 {at[2]:.2f}, longest {order[-1] * 1000:.1f}"
    return f"{len(order):7d} requests, {parts}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reload", description=__doc__.partition("\n")[0])
    parser.add_argument("--routes", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=2_000, help="that live through all of it")
    parser.add_argument("--reloads", type=int, default=5)
    asked = parser.parse_args()
    command = dcrouter_command()
    if command is None:
        print("dcrouter is not installed here")
        return 1
    raise_descriptor_limit()
    base = Path(tempfile.mkdtemp(prefix="bench-reload-"))
    atexit.register(shutil.rmtree, base)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ports = {"backend": listener.getsockname()[1], "echo": free_port(), "tls": free_port()}
    backend = os.fork()
    if backend == 0:
        serve(listener)
    listener.close()
    atexit.register(os.kill, backend, signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    (base / "routes.yaml").write_text(configuration(asked.routes, 0, ports))
    log = (base / "log").open("wb")
    service = subprocess.Popen([command, "run"], cwd=base, stdout=log, stderr=log)
    door = base / "state" / "admin.sock"
    try:
        while True:
            try:
                if ask(door, "GET", "/status")["state"] == "ready":
                    break
            except ApiError:
                time.sleep(0.2)
            if service.poll() is not None:
                print((base / "log").read_text())
                return 1
        live = [socket.create_connection(("127.0.0.1", ports["echo"])) for _ in range(asked.connections)]
        for client in live:
            client.sendall(b"hello")
        for client in live:
            client.recv(10)
        pid = ask(door, "GET", "/status")["children"]["edge"]["pid"]
        resident = [private_kib([(pid, 0)])]
        took: list[float] = []
        shown: dict[str, list[float]] = {}
        broken = 0
        for name in ("without", "with"):
            probe = Probe(ports["echo"])
            probe.start()
            for turn in range(1, asked.reloads + 1):
                (base / "routes.yaml").write_text(configuration(asked.routes, turn, ports))
                if name == "with":
                    outcome = ask(door, "POST", "/reload")
                    took.append(outcome["seconds"])
                else:
                    time.sleep(3.0)
            probe.over.set()
            probe.join(60)
            broken += probe.broken
            shown[name] = probe.times
        for client in live:
            client.settimeout(10)
            client.sendall(b"there?")
            broken += client.recv(10) != b"there?"
        print(f"{asked.routes} routes, {asked.connections} live connections, {asked.reloads} reloads of {took} s")
        for name, times in shown.items():
            print(f"{name:8s}{figures(times)}")
        print(f"broken connections: {broken}")
        resident.append(private_kib([(pid, 0)]))
        print(f"memory of the edge: {resident[0] // 1024} MB before, {resident[1] // 1024} MB after")
        status = ask(door, "GET", "/status")
        print(json.dumps({"reloads": status["reloads"]["count"], "refused": status["reloads"]["failed"]}))
    finally:
        service.send_signal(signal.SIGTERM)
        service.send_signal(signal.SIGTERM)
        try:
            service.wait(10)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()
        log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
