"""What hostile code tries, level by level. The evidence is the host's: its files, sockets, processes and clock."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from attack_samples import MIB, Attacker, Listener, processes_named

import mergebench_core
from mergebench_core.isolation import processes
from mergebench_core.isolation.processes import descendants

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="sandboxes need Linux")]
TRACKS = Path(mergebench_core.__file__).parent / "tracks"


# --- reading ---------------------------------------------------------------------------------------------------


def reads(attacker: Attacker, path: str) -> bool:
    """Return whether the attacker brought the beginning of a file home."""
    beginning = Path(path).read_bytes()[:200].hex()
    ended = attacker.run(f"attempt(lambda: open({path!r}, 'rb').read()[:200].hex())")
    assert ended.said
    return beginning in ended.said


def test_reading_a_file_of_the_host(attacker, level):
    secret = attacker.outside / "token"
    secret.write_text("secret token")
    secret.chmod(0o644)
    assert reads(attacker, str(secret)) == (level == 0)


def test_reading_accounts(attacker, level):
    assert reads(attacker, "/etc/passwd") == (level == 0)


def test_reading_test_items(attacker, level):
    items = next(path for path in sorted(TRACKS.rglob("items/*.jsonl")) if "surrogate" not in path.name)
    assert reads(attacker, str(items)) == (level == 0)


def test_reading_the_environment_of_the_host(attacker, level):
    pids = [os.getpid(), os.getppid()]
    ended = attacker.run(
        f"""
        for pid in [*{pids}, os.getppid()]:
            attempt(lambda: open(f"/proc/{{pid}}/environ", "rb").read().hex())
        attempt(lambda: str(dict(os.environ)).encode().hex())
        """
    )
    own = Path("/proc/self/environ").read_bytes()[:100].hex()
    assert (own in ended.said) == (level == 0)
    assert b"token-in-the-environment".hex() not in ended.said  # neither inherited, at any level


def test_only_standard_descriptors_are_open(attacker):
    ended = attacker.run("say(' '.join(sorted(os.listdir('/proc/self/fd'))))")
    assert ended.said.split() in (["0", "1", "2", "3"], ["0", "1", "2"])  # 3: the listing itself


# --- network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix_path", "unix_datagram", "unix_abstract", "unix_pair"])
def test_reaching_a_socket_of_the_host(attacker, level, kind):
    path = str(attacker.outside / "socket")
    name = f"\0mergebench-attack-{uuid.uuid4().hex}"
    where, code = {
        "tcp": ((socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)), "s.connect(to)"),
        "udp": ((socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)), "s.sendto(b'x', to)"),
        "unix_path": ((socket.AF_UNIX, socket.SOCK_STREAM, path), "s.connect(to)"),
        "unix_datagram": ((socket.AF_UNIX, socket.SOCK_DGRAM, path), "s.sendto(b'x', to)"),
        "unix_abstract": ((socket.AF_UNIX, socket.SOCK_STREAM, name), "s.connect(to)"),
        "unix_pair": ((socket.AF_UNIX, socket.SOCK_DGRAM, path), "s.sendto(b'x', to)"),
    }[kind]
    listener = Listener(*where)
    if listener.socket.family == socket.AF_UNIX and where[2] == path:
        Path(path).chmod(0o777)
    family, form, _ = where
    made = f"socket.socket({int(family)}, {int(form)})"
    if kind == "unix_pair":  # a pair that was made connected may still send elsewhere
        made = f"socket.socketpair({int(family)}, {int(form)})[0]"
    address = listener.socket.getsockname()
    address = address.encode() if isinstance(address, str) else address
    attacker.run(f"to = {address!r}\ndef reach():\n    s = {made}\n    {code}\nattempt(reach)")
    assert listener.has_visitor() == (level == 0)
    listener.socket.close()


# --- writing ---------------------------------------------------------------------------------------------------


def test_writing_outside(attacker, level):
    """A forged result, a mark in the machine's temporary folder."""
    forged = attacker.outside / "record.json"
    mark = Path("/tmp") / f"mergebench-attack-{uuid.uuid4().hex}"
    attacker.run(
        f"""
        for path in ({str(forged)!r}, {str(mark)!r}):
            attempt(lambda: open(path, "w").write("forged"))
        """
    )
    assert forged.exists() == (level == 0)
    assert mark.exists() == (level == 0)
    mark.unlink(missing_ok=True)


def test_writing_into_the_interpreter(attacker, level):
    """Code that every later process would run. As its own user an attacker may not, in whatever sandbox."""
    name = f"mergebench_attack_{uuid.uuid4().hex}.pth"
    target = Path(os.__file__).parent / "site-packages" / name
    attacker.run(f"attempt(lambda: open({str(target)!r}, 'w').write('import os'))")
    if level > 0:
        assert not target.exists()
    target.unlink(missing_ok=True)


def test_changing_a_file_through_a_link(attacker, level):
    """A link in the attacker's folder to a file outside; the host removes the link, not what it leads to."""
    target = attacker.outside / "model.safetensors"
    target.write_text("weights")
    target.chmod(0o666)
    attacker.run(
        f"attempt(lambda: os.symlink({str(target)!r}, 'link'))\nattempt(lambda: open('link', 'w').write('x'))"
    )
    assert (target.read_text() == "weights") == (level > 0)
    assert target.exists()


@pytest.mark.parametrize(
    "kind", ["os.symlink('/etc/passwd', 'f')", "os.mkfifo('f')", "os.link('/etc/passwd', 'f')"]
)
def test_links_and_pipes_cannot_be_made_in_the_folder(attacker, level, kind):
    attacker.run(f"attempt(lambda: {kind})")
    if level > 0:
        assert not (attacker.work / "f").is_symlink()
        assert not (attacker.work / "f").exists()


def test_what_was_written_cannot_be_executed(attacker, level):
    attacker.run(
        """
        with open("program", "w") as file:
            file.write("#!/bin/sh\\necho executed > mark\\n")
        os.chmod("program", 0o755)
        attempt(lambda: os.spawnv(os.P_WAIT, "./program", ["program"]))
        """
    )
    assert (attacker.work / "mark").exists() == (level == 0)


# --- resources -------------------------------------------------------------------------------------------------


def test_filling_the_disk(attacker):
    ended = attacker.run(
        """
        while True:
            for number in range(20):
                try:
                    with open(f"file{number}", "ab") as file:
                        file.write(bytes(1 << 20))
                except OSError:  # each file has a limit, too; only the host ends this
                    pass
            time.sleep(0.01)
        """
    )
    assert ended.sandbox.overrun == f"more than {64 * MIB} bytes of disk"


def test_one_huge_file(attacker):
    ended = attacker.run("with open('f', 'wb') as file:\n    file.truncate(1 << 40)")
    assert not (attacker.work / "f").exists() or (attacker.work / "f").stat().st_size <= 64 * MIB
    assert ended.sandbox.process.returncode != 0


def test_many_files(attacker):
    ended = attacker.run(
        "for number in range(10**6):\n    open(f'file{number}', 'w').close()\n    time.sleep(0.0005)"
    )
    assert ended.sandbox.overrun == "more than 500 files"


def test_fork_bomb(attacker, level):
    """Three hundred forks are tried; the host counts the processes."""
    sandbox = attacker.start(
        """
        for number in range(300):
            try:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
            except OSError:
                pass
        say("forked")
        time.sleep(60)
        """
    )
    wait_for(lambda: (attacker.work / "said").exists())
    count = len(descendants(sandbox.process.pid))
    sandbox.stop()
    assert count > 300 if level == 0 and os.geteuid() == 0 else count <= 45  # no limit of root's binds root


def test_memory_of_one_process(attacker):
    ended = attacker.run(
        "kept = []\nwhile True:\n    kept.append(bytearray(b'x' * (8 << 20)))\n    time.sleep(0.05)"
    )
    assert_out_of_memory(ended.sandbox)


def test_memory_of_many_processes(attacker):
    ended = attacker.run(
        """
        for number in range(6):
            if os.fork() == 0:
                break
        kept = []
        for step in range(12):
            kept.append(bytearray(b"x" * (8 << 20)))
            time.sleep(0.2)
        time.sleep(30)
        """
    )
    assert_out_of_memory(ended.sandbox)


def test_memory_that_is_mapped_nowhere(attacker, level):
    """A file in memory, filled and never mapped, is in no process's account: level 0 leaks it."""
    ended = attacker.run(
        """
        def fill():
            for number in range(13):
                descriptor = os.memfd_create("hidden")
                for step in range(32):
                    os.write(descriptor, bytes(1 << 20))
            return "filled"
        attempt(fill)
        """
    )
    assert ("filled" in ended.said) == (level == 0)


def test_memory_in_system_v_segments(attacker, level):
    """They outlive the process that made them, and without namespaces the sandbox."""
    ended = attacker.run(
        """
        def fill():
            shmat = libc.shmat
            shmat.restype, shmat.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
            number = libc.shmget(0, 1 << 20, 0o600 | 0o1000)
            if number < 0:
                raise OSError(ctypes.get_errno(), "shmget")
            ctypes.memset(shmat(number, None, 0), 1, 1 << 20)
            libc.shmctl(number, 0, None)
            return "filled"
        attempt(fill)
        """
    )
    assert ("filled" in ended.said) == (level == 0)


def test_endless_loop(attacker):
    ended = attacker.run("while True: pass", time_s=1.0)
    assert ended.sandbox.overrun == "more than 1 s of time"


def test_sleep_that_ignores_signals(attacker):
    ended = attacker.run(
        """
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        time.sleep(600)
        """,
        time_s=1.0,
    )
    assert ended.sandbox.overrun == "more than 1 s of time"
    assert ended.sandbox.process.returncode is not None


def test_clock_that_was_patched(attacker):
    """The host counts on its own clock."""
    ended = attacker.run("time.time = time.monotonic = lambda: 0.0\nwhile True: pass", time_s=1.0)
    assert ended.sandbox.overrun == "more than 1 s of time"


# --- processes -------------------------------------------------------------------------------------------------


@pytest.fixture
def bystander():
    """A stand-in for the runner: a process of the host's user that answers as long as it lives."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        yield process
        process.kill()


def answers(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process still runs, however long its death takes: once killed, it never reads again."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"?")
        return process.stdout.read(1) == b"?"
    return False


def test_killing_the_host(attacker, level, bystander):
    assert answers(bystander)
    attacker.run(f"attempt(lambda: os.kill({bystander.pid}, 9))\nattempt(lambda: os.kill(-1, 0))")
    assert answers(bystander) == (level > 0)


def test_tracing_and_reading_the_host(attacker, level, bystander):
    pid = bystander.pid
    ended = attacker.run(
        f"""
        attempt(lambda: open("/proc/{pid}/mem", "rb").seek(0) or "memory")
        attempt(lambda: "traced" if libc.ptrace(16, {pid}, None, None) == 0 else 1 / 0)
        attempt(lambda: os.listdir("/proc/{pid}/fd") and "descriptors")
        """
    )
    for word in ("memory", "traced", "descriptors"):
        assert (word in ended.said) == (level == 0), word


def test_daemon_that_survives(attacker):
    """Forked twice, in a session of its own, its streams closed: it ends with the sandbox at every level."""
    name = f"mb{uuid.uuid4().hex[:10]}"
    sandbox = attacker.start(
        f"""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                libc.prctl(15, b"{name}", 0, 0, 0)
                os.closerange(0, 64)
                say("daemon")
                time.sleep(600)
            os._exit(0)
        """
    )
    wait_for(lambda: (attacker.work / "said").exists())
    sandbox.process.wait(timeout=30) if attacker.level < 2 else time.sleep(0.3)
    sandbox.stop()
    wait_for(lambda: processes_named(name) == [])


def test_nothing_outlives_what_watches_over_it(attacker):
    """The outermost process is killed by force, as a machine out of memory does it."""
    name = f"mb{uuid.uuid4().hex[:10]}"
    sandbox = attacker.start(f"libc.prctl(15, b'{name}', 0, 0, 0)\nsay('here')\ntime.sleep(600)")
    wait_for(lambda: (attacker.work / "said").exists())
    os.kill(sandbox.process.pid, 9)
    wait_for(lambda: processes_named(name) == [])


def test_processes_that_cannot_be_stopped_end_the_sandbox(attacker, monkeypatch):
    sandbox = attacker.start("time.sleep(600)")
    monkeypatch.setattr(processes, "stop_all", lambda pid: False)
    sandbox.freeze()
    assert sandbox.overrun == "more processes than could be stopped"
    assert sandbox.process.returncode is not None


def test_new_namespaces(attacker, level):
    ended = attacker.run("attempt(lambda: 'made' if libc.unshare(0x10000000) == 0 else 1 / 0)")
    assert ("made" in ended.said) == (level == 0)


def test_frozen_processes_do_nothing(attacker):
    """While the host scores, a thread and a child of the method stand still; then they go on."""
    sandbox = attacker.start(
        """
        os.fork()
        while True:
            with open(f"ticks{os.getpid()}", "a") as file:
                file.write("x")
            time.sleep(0.005)
        """
    )

    def ticks() -> list[int]:
        return [path.stat().st_size for path in sorted(attacker.work.glob("ticks*"))]

    wait_for(lambda: len(ticks()) == 2)
    sandbox.freeze()
    before = ticks()
    time.sleep(0.5)
    assert ticks() == before
    sandbox.thaw()
    wait_for(lambda: all(after > old for after, old in zip(ticks(), before, strict=True)))


def wait_for(condition, timeout_s: float = 30.0) -> None:
    """Wait until something is so; what hangs fails."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_out_of_memory(sandbox) -> None:
    """The limit ended it: the kernel's where it is hard, the host's watch elsewhere."""
    if sandbox.isolation.is_memory_hard:
        assert sandbox.is_out_of_memory()
        return
    assert sandbox.overrun == f"more than {256 * MIB} bytes of memory"
    assert sandbox.peak_memory_bytes() < 600 * MIB
