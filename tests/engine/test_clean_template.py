"""What an import leaves open is not shared by workers: the template begins anew without it, and the log says so."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool.backends.local.template import cleanliness
from tests.engine.scripts import environment, nothing_left, run_script

if TYPE_CHECKING:
    from pathlib import Path

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")

#: What a module may leave, and what the log calls it.
LEFTOVERS = {
    "a socket": ("import socket; kept = socket.socketpair()", "an open socket"),
    "a pipe": ("import os; kept = os.pipe()", "an open pipe"),
    "a device": ("kept = open('/dev/ptmx', 'rb', buffering=0)", "an open device (/dev/ptmx)"),
    "an epoll": ("import select; kept = select.epoll()", "an open eventpoll"),
    "an event": ("import os; kept = os.eventfd(0)", "an open eventfd"),
    "inotify": ("import ctypes; kept = ctypes.CDLL(None).inotify_init()", "an open inotify"),
    "a file that is written": ("import tempfile; kept = tempfile.TemporaryFile()", "an open file"),
    "a database": (
        "import os, sqlite3\n"
        "kept = sqlite3.connect(os.environ['DATABASE'])\n"
        "kept.execute('create table if not exists t(x)')\n",
        "an open file",
    ),
    "a lock": (
        "import multiprocessing; kept = multiprocessing.get_context('spawn').Lock()",
        "memory or a lock that is shared",
    ),
    "a thread": (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "a thread",
    ),
    "a thread of C": ("import faulthandler; faulthandler.dump_traceback_later(1000)", "a thread"),
    "a child": ("import subprocess; kept = subprocess.Popen(['sleep', '20'])", "a child process"),
}
HARMLESS = {
    "a file that is read": "kept = open(__file__)",
    "a mapped file": "import mmap; f = open(__file__); kept = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close()",
    "a log": "import logging, os; logging.basicConfig(filename=os.environ['LOG'])",
    "a folder": "import os; kept = os.open('/', os.O_RDONLY)",
    "chance": "kept = open('/dev/urandom', 'rb')",
    "a thread that ended": "import threading; t = threading.Thread(target=int); t.start(); t.join()",
}
MODULE = """
import os
import subprocess
{code}
WHERE = os.getpid()
def where(): return WHERE == os.getpid()
"""


@linux_only
@pytest.mark.parametrize("kind", LEFTOVERS)
async def test_a_preloaded_module_that_leaves_something_open_is_imported_by_each_worker(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code, called = LEFTOVERS[kind]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DATABASE", str(tmp_path / "database"))
    (tmp_path / "leaving.py").write_text(MODULE.format(code=code))
    (tmp_path / "asking.py").write_text("def ask():\n    import leaving\n    return leaving.where()\n")
    import asking  # type: ignore[import-not-found]

    with caplog.at_level(logging.WARNING, logger="lifepool"):
        async with Pool(max_workers=2, preload=["colorsys", "leaving"]) as pool:
            assert await asyncio.gather(*[pool.run(asking.ask) for _ in range(4)]) == [True] * 4
    del sys.modules["asking"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert "importing 'leaving' leaves " in told
    assert called in told


@linux_only
@pytest.mark.parametrize("kind", HARMLESS)
async def test_what_does_no_harm_is_imported_once_for_all(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    (tmp_path / "staying.py").write_text(MODULE.format(code=HARMLESS[kind]))
    (tmp_path / "asking.py").write_text("def ask():\n    import staying\n    return staying.where()\n")
    import asking

    async with Pool(max_workers=2, preload=["staying"]) as pool:
        assert not await pool.run(asking.ask)
    del sys.modules["asking"]
    assert caplog.records == []


def test_a_connection_of_the_main_script_is_each_workers_own(tmp_path: Path) -> None:
    """A server that answers with what it was asked: on a shared connection, answers go astray."""
    script = tmp_path / "connected.py"
    script.write_text(
        "import asyncio, os, socket, threading\n"
        "from lifepool import Pool\n"
        "if __name__ == '__main__':\n"
        "    listener = socket.create_server(('127.0.0.1', 0))\n"
        "    os.environ['PORT'] = str(listener.getsockname()[1])\n"
        "connection = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])))\n"
        "def ask(number):\n"
        "    connection.sendall(b'%8d' % number)\n"
        "    return int(connection.recv(8, socket.MSG_WAITALL)) == number\n"
        "def echo(peer):\n"
        "    while data := peer.recv(8, socket.MSG_WAITALL):\n"
        "        peer.sendall(data)\n"
        "def serve():\n"
        "    while True:\n"
        "        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()\n"
        "async def main():\n"
        "    threading.Thread(target=serve, daemon=True).start()\n"
        "    async with Pool(max_workers=4) as pool:\n"
        "        print(sum(await pool.gather(ask, range(400), chunksize=1)))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = run_script(str(script))
    assert done.out == "400\n", done.err
    assert done.err.count("importing the main script leaves an open socket") == 1


@linux_only
def test_each_worker_reads_a_file_of_the_main_script_at_a_position_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("".join(f"{n:7d}\n" for n in range(100)))
    script = tmp_path / "reading.py"
    script.write_text(
        "import asyncio, json, os\n"
        "from lifepool import Pool\n"
        f"data = open({str(tmp_path / 'data')!r}, 'rb', buffering=0)\n"
        "data.read(16)\n"
        "def read(_):\n"
        "    return os.getpid(), int(data.read(8))\n"
        "async def main():\n"
        "    async with Pool(max_workers=2) as pool:\n"
        "        print(json.dumps(await pool.gather(read, range(40), chunksize=1)))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = run_script(str(script))
    assert done.err == ""
    by_worker: dict[int, list[int]] = {}
    for pid, number in json.loads(done.out):
        by_worker.setdefault(pid, []).append(number)
    for numbers in by_worker.values():
        assert sorted(numbers) == list(range(2, 2 + len(numbers)))


@linux_only
async def test_threads_that_a_library_ends_before_a_fork_are_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenBLAS does, which comes with numpy: its thread is there after the import, and gone when the process forks."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    (tmp_path / "multiplying.py").write_text(
        "import os, numpy\n"
        "WHERE = os.getpid()\n"
        "one = numpy.ones((300, 300)); one @ one\n"
        "THREADS = len(os.listdir('/proc/self/task'))\n"
        "def multiply(): return WHERE == os.getpid(), THREADS, float((one @ one)[0, 0])\n"
    )
    (tmp_path / "asking.py").write_text("def ask():\n    import multiplying\n    return multiplying.multiply()\n")
    import asking

    async with Pool(max_workers=2, preload=["multiplying"], timeout=20) as pool:
        imported_here, threads, product = await pool.run(asking.ask)
    del sys.modules["asking"]
    assert (imported_here, product) == (False, 300.0)
    assert caplog.records == []
    if (os.cpu_count() or 1) > 1:
        assert threads > 1


async def test_a_preloaded_module_that_starts_its_own_threads_of_openmp_hangs_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "clustering.py").write_text(
        "import numpy\n"
        "from sklearn.cluster import KMeans\n"
        "points = numpy.arange(8000.0).reshape(-1, 4)\n"
        "def cluster(): return len(KMeans(3, n_init=1).fit(points).cluster_centers_)\n"
        "cluster()\n"
    )
    (tmp_path / "asking.py").write_text("def ask():\n    import clustering\n    return clustering.cluster()\n")
    import asking

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    async with Pool(max_workers=1, preload=["clustering"], timeout=25) as pool:
        assert await pool.run(asking.ask) == 3
    del sys.modules["asking"]
    assert "importing 'clustering' leaves" in caplog.text


async def test_each_module_that_leaves_something_is_named_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in (("first", LEFTOVERS["a pipe"][0]), ("second", ""), ("third", LEFTOVERS["a thread"][0])):
        (tmp_path / f"{name}.py").write_text(MODULE.format(code=code))
    (tmp_path / "asking.py").write_text(
        "def ask():\n    import first, second, third\n    return first.where(), second.where(), third.where()\n"
    )
    import asking

    async with Pool(max_workers=1, preload=["first", "second", "third"]) as pool:
        assert await pool.run(asking.ask) == (True, False, True)
        assert "'first'" in caplog.text
        assert "'third'" in caplog.text
        assert "'second'" not in caplog.text
    del sys.modules["asking"]


@linux_only
@pytest.mark.parametrize("never", ["time.sleep(1000)", "ctypes.PyDLL(None).sleep(1000)"])
def test_a_template_whose_import_never_ends_ends_with_its_server(tmp_path: Path, never: str) -> None:
    (tmp_path / "program.py").write_text(
        "import asyncio, ctypes, os, subprocess, time\n"
        "from lifepool import Pool\n"
        "if __name__ != '__main__':\n"
        "    subprocess.Popen(['sleep', '1000'])\n"
        "    open(os.environ['BEGUN'], 'w').close()\n"
        f"    {never}\n"
        "async def main():\n"
        "    async with Pool(max_workers=1):\n"
        "        pass\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    os.mkfifo(tmp_path / "begun")
    env = environment() | {"BEGUN": str(tmp_path / "begun")}
    with subprocess.Popen([sys.executable, str(tmp_path / "program.py")], env=env) as server:
        with open(tmp_path / "begun") as begun:
            begun.read()
        server.kill()
    assert nothing_left(env)


def test_a_thread_that_has_ended_is_waited_for_until_the_kernel_has_removed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes it for ended a moment before."""
    here = threading.active_count()
    counts = iter([here + 1, here + 1, here + 1, here, here])
    monkeypatch.setattr(cleanliness, "_count_threads", lambda: next(counts))
    monkeypatch.setattr(cleanliness, "_fork_on_trial", lambda: None)
    monkeypatch.setattr(cleanliness, "GONE_S", 20.0)
    assert cleanliness._threads_left() == here - 1
    assert not list(counts)
