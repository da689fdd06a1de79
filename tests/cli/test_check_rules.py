"""`lifepool check`: each rule finds what it is about, and leaves alone what looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lifepool.cli.check.checker import check_files
from lifepool.cli.check.rules import RULES
from tests.cli.sources import codes, findings

if TYPE_CHECKING:
    from pathlib import Path

IMPORTS = """
import asyncio, functools, multiprocessing, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fastapi import Depends, FastAPI, Request
from lifepool import Pool, PoolDep
"""


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", RULES)
def test_the_bad_example_of_a_rule_breaks_it_and_no_other(code: str, tmp_path: Path) -> None:
    assert codes(tmp_path, RULES[code].bad) == [code]


@pytest.mark.parametrize("code", RULES)
def test_the_good_example_of_a_rule_breaks_none(code: str, tmp_path: Path) -> None:
    assert codes(tmp_path, RULES[code].good) == []


def test_codes_are_in_order_without_a_gap() -> None:
    assert list(RULES) == [f"LP{number:03}" for number in range(len(RULES))]


def test_the_service_that_this_project_was_born_from_is_found(tmp_path: Path) -> None:
    source = """
        import re
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from fastapi import FastAPI
        from pydantic import BaseModel

        app = FastAPI()

        class Content(BaseModel):
            data: str

        def find_domains(chunk: str) -> list[str]:
            return re.findall(r"(?:[a-zA-Z0-9-]+\\.)+[a-zA-Z]{2,}", chunk)

        @app.post("/addContent")
        async def add_content(content: Content):
            chunks = [content.data[i:i + 1000] for i in range(0, len(content.data), 1000)]
            domains = []
            with ProcessPoolExecutor() as executor:
                futures = [executor.submit(find_domains, chunk) for chunk in chunks]
                for future in as_completed(futures):
                    domains.extend(future.result())
            return {"status": "success", "domains_found": domains, "count": len(domains)}
        """
    pool, waiting = findings(tmp_path, source)
    assert (pool.code, pool.location.line, pool.location.column) == ("LP001", 19, 10)
    assert pool.message == "ProcessPoolExecutor is made in `add_content`, for each request"
    assert (waiting.code, waiting.location.line) == ("LP007", 21)


# --- LP001: in a request ---------------------------------------------------------------------------------------------

MAKERS = [
    "ProcessPoolExecutor()",
    "multiprocessing.Pool(4)",
    "multiprocessing.get_context('spawn').Pool()",
    "Pool()",
    "lifepool.pool.Pool()",
    "joblib.Parallel(n_jobs=-1)",
    "pebble.ProcessPool()",
    "lifepool.futures.ProcessPoolExecutor()",
]
HANDLERS = {
    "a route": "@app.get('/')\ndef handler():\n    {}",
    "a route of a router from elsewhere": "@router.post('/', status_code=201)\nasync def handler():\n    {}",
    "a route with its path in a constant": "@router.post(PATH)\nasync def handler():\n    {}",
    "a websocket": "@app.websocket('/ws')\nasync def handler(socket):\n    {}",
    "a dependency": "def handler():\n    {}\n\n@app.get('/')\ndef route(x=Depends(handler)): ...",
    "an annotated dependency": "def handler():\n    {}\n\nX = Annotated[int, Depends(handler)]",
    "what takes a request": "async def handler(request: Request):\n    {}",
    "a route added by hand": "def handler():\n    {}\n\napp.add_api_route('/', handler)",
    "a Starlette route": "def handler(r):\n    {}\n\nroutes = [Route('/', handler)]",
    "middleware": "@app.middleware('http')\nasync def handler(r, call_next):\n    {}",
    "a middleware class": "class M(BaseHTTPMiddleware):\n    async def dispatch(self, r, call_next):\n        {}",
    "an ASGI app": "class A:\n    async def __call__(self, scope, receive, send):\n        {}",
    "what a route calls": "def work():\n    {}\n\n@app.get('/')\ndef handler():\n    return work()",
    "what a route sends away": (
        "def work():\n    {}\n\n@app.get('/')\nasync def handler():\n    await asyncio.to_thread(work)"
    ),
    "a method that a route calls": (
        "class A:\n    def work(self):\n        {}\n\n    async def handler(self, r: Request):\n        self.work()"
    ),
}
MORE_IMPORTS = """
import joblib, lifepool.futures, lifepool.pool, pebble
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route
from typing import Annotated
"""


@pytest.mark.parametrize("maker", MAKERS)
def test_every_kind_of_pool_in_a_handler_is_found(maker: str, tmp_path: Path) -> None:
    source = f"{IMPORTS}{MORE_IMPORTS}\n@app.get('/')\ndef handler():\n    with {maker} as pool: ..."
    assert codes(tmp_path, source) == ["LP001"]


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_pool_is_found_in_every_kind_of_handler(handler: str, tmp_path: Path) -> None:
    source = f"{IMPORTS}{MORE_IMPORTS}\n{HANDLERS[handler].format('pool = ProcessPoolExecutor()')}"
    assert codes(tmp_path, source) == ["LP001"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("def script():\n    with ProcessPoolExecutor() as pool: ...", id="a plain function"),
        pytest.param("async def lifespan(app):\n    with ProcessPoolExecutor() as pool:\n        yield", id="lifespan"),
        pytest.param("async def main():\n    async with Pool() as pool: ...", id="main"),
        pytest.param(
            "async def work():\n    async with Pool() as p: ...\nif 1:\n    asyncio.run(work())", id="run once"
        ),
        pytest.param("async def test_it():\n    async with Pool() as pool: ...", id="a test"),
        pytest.param("async def make():\n    return ProcessPoolExecutor()", id="a factory"),
        pytest.param(
            "class A:\n    async def begin(self):\n        self.pool = ProcessPoolExecutor()", id="kept in an attribute"
        ),
        pytest.param(
            "async def handler(request: Request):\n    request.app.state.pool = ProcessPoolExecutor()", id="kept by app"
        ),
        pytest.param(
            "@functools.lru_cache\ndef get_pool():\n    return ProcessPoolExecutor()\n\n"
            "async def handler(request: Request):\n    get_pool()",
            id="made once by a cached function",
        ),
        pytest.param("async def handler(request: Request):\n    Pool(backend='inline')", id="no processes"),
        pytest.param("@app.get('/')\ndef handler():\n    with ThreadPoolExecutor() as pool: ...", id="threads"),
        pytest.param("@registry.get(1 + 1)\ndef handler():\n    ProcessPoolExecutor()", id="no route"),
    ],
)
def test_a_pool_that_is_made_once_is_left_alone(source: str, tmp_path: Path) -> None:
    assert [code for code in codes(tmp_path, IMPORTS + source) if code in ("LP001", "LP002")] == []


@pytest.mark.parametrize("origin", ["from mine import ProcessPoolExecutor", "class ProcessPoolExecutor: ...", ""])
def test_what_only_has_the_name_of_a_pool_is_left_alone(origin: str, tmp_path: Path) -> None:
    assert codes(tmp_path, f"{origin}\nasync def work():\n    with ProcessPoolExecutor() as pool: ...") == []


def test_the_message_names_the_handler_that_leads_there(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, IMPORTS + HANDLERS["what a route calls"].format("pool = ProcessPoolExecutor()"))
    assert found.message == "ProcessPoolExecutor is made in `work`, which the handler `handler` (line 10) leads to"


# --- LP003: global ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("executor = ProcessPoolExecutor(4)", ["LP003"]),
        ("def get():\n    global e\n    if e is None:\n        e = ProcessPoolExecutor()\n    return e", ["LP003"]),
        ("executor = ThreadPoolExecutor(4)", []),
        ("executor: ProcessPoolExecutor | None = None", []),
        ("from lifepool.futures import ProcessPoolExecutor as P\nexecutor = P()", []),
        ("executor = ProcessPoolExecutor()\nasync def lifespan(app):\n    yield\n    executor.shutdown()", []),
        ("executor = ProcessPoolExecutor()\nasync def lifespan(app):\n    with executor:\n        yield", []),
        ("async def lifespan(app):\n    global e\n    e = ProcessPoolExecutor()\n    yield", []),
        ("if __name__ == '__main__':\n    executor = ProcessPoolExecutor()", []),
    ],
)
def test_a_global_executor_needs_somebody_who_ends_it(source: str, found: list[str], tmp_path: Path) -> None:
    assert codes(tmp_path, f"{IMPORTS}\n{source}") == found


# --- LP004: started by an import -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import uvicorn\nuvicorn.run('main:app')", True),
        ("from uvicorn import run as serve\nserve('main:app')", True),
        ("import uvicorn\ndef main():\n    uvicorn.run('main:app')\nmain()", True),
        ("import uvicorn\ntry:\n    uvicorn.run('main:app')\nexcept KeyboardInterrupt: ...", True),
        ("import multiprocessing as mp\npool = mp.Pool()", True),
        ("import multiprocessing as mp\np = mp.get_context('spawn').Process(target=f)\np.start()", True),
        ("import asyncio\nfrom lifepool import Pool\nasync def main(): ...\nasyncio.run(main())", True),
        ("from concurrent.futures import ProcessPoolExecutor as P\nwith P() as p:\n    p.submit(f)", True),
        ("import asyncio\nasync def main(): ...\nasyncio.run(main())", False),
        ("import uvicorn\nif __name__ == '__main__':\n    uvicorn.run('main:app')", False),
        ("import uvicorn\nif '__main__' == __name__ and x:\n    uvicorn.run('main:app')", False),
        ("import uvicorn\ndef main():\n    uvicorn.run('main:app')\nif __name__ == '__main__':\n    main()", False),
        ("import uvicorn\nif __name__ == '__main__': ...\nelse:\n    uvicorn.run('main:app')", True),
        ("import threading\nthreading.Thread(target=f).start()", False),
    ],
)
def test_a_start_needs_the_guard(source: str, found: bool, tmp_path: Path) -> None:
    assert ("LP004" in codes(tmp_path, source)) is found


def test_a_package_s_main_module_needs_no_guard(tmp_path: Path) -> None:
    source = "import uvicorn\nuvicorn.run('main:app')"
    assert codes(tmp_path, source, "__main__.py") == []


# --- LP005, LP006, LP007: on the event loop --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imports", "call", "code"),
    [
        ("import time as t", "t.sleep(1)", "LP005"),
        ("from time import sleep", "sleep(1)", "LP005"),
        ("import requests", "requests.get('http://x')", "LP005"),
        ("import requests", "session = requests.Session(); session.post('http://x')", "LP005"),
        ("import httpx", "httpx.get('http://x')", "LP005"),
        ("import urllib.request", "urllib.request.urlopen('http://x')", "LP005"),
        ("import subprocess", "subprocess.run(['ls'])", "LP005"),
        ("import subprocess", "p = subprocess.Popen(['ls']); p.wait()", "LP005"),
        ("import os", "os.system('ls')", "LP005"),
        ("import socket", "socket.gethostbyname('x')", "LP005"),
        ("", "input()", "LP005"),
        ("import hashlib", "hashlib.scrypt(b'', salt=b'', n=2, r=8, p=1)", "LP006"),
        ("import bcrypt", "bcrypt.checkpw(a, b)", "LP006"),
        ("from passlib.context import CryptContext\nc = CryptContext()", "c.verify(a, b)", "LP006"),
        ("import gzip", "gzip.compress(data)", "LP006"),
        ("import numpy as np", "np.linalg.svd(a)", "LP006"),
        ("import pandas as pd", "pd.read_csv('x')", "LP006"),
        ("from sklearn.svm import SVC\nmodel = SVC()", "model.predict(x)", "LP006"),
        ("import joblib\nmodel = joblib.load('x')", "model.predict(x)", "LP006"),
        ("from PIL import Image", "i = Image.open(f); i = i.convert('L')", "LP006"),
        ("from transformers import pipeline\nnlp = pipeline('x')", "nlp(text)", "LP006"),
        ("from bs4 import BeautifulSoup", "BeautifulSoup(text)", "LP006"),
        (
            "from concurrent.futures import ThreadPoolExecutor\ne = ThreadPoolExecutor()",
            "e.submit(f).result()",
            "LP007",
        ),
        ("import concurrent.futures as cf", "cf.wait(fs)", "LP007"),
        ("from lifepool.futures import ProcessPoolExecutor as P\ne: P", "e.shutdown()", "LP007"),
        ("import multiprocessing\np: multiprocessing.pool.Pool", "p.map(f, x)", "LP007"),
    ],
)
def test_what_holds_the_loop_up_is_found_by_any_name(imports: str, call: str, code: str, tmp_path: Path) -> None:
    source = f"{imports}\n\nasync def work(a, b, x, f, fs, data, text):\n    {call}\n"
    assert codes(tmp_path, source) == [code]
    assert codes(tmp_path, source.replace("async def", "def")) == [], "a plain function may"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("await asyncio.to_thread(time.sleep, 1)", id="handed to a thread"),
        pytest.param("await loop.run_in_executor(None, lambda: time.sleep(1))", id="in a lambda"),
        pytest.param(
            "def work():\n        time.sleep(1)\n    await asyncio.to_thread(work)", id="a function for a thread"
        ),
        pytest.param("executor.shutdown(wait=False)", id="it does not wait"),
        pytest.param("await session.get('http://x')", id="a session of another library"),
        pytest.param("future.result()", id="a result of who knows what"),
        pytest.param("time = Clock()\n    time.sleep(1)", id="another time"),
        pytest.param("open('x').read()", id="a file"),
        pytest.param("numpy.linalg.norm(x)", id="cheap"),
    ],
)
def test_what_does_not_hold_the_loop_up_is_left_alone(body: str, tmp_path: Path) -> None:
    source = f"{IMPORTS}import numpy\nasync def work(loop, executor: ProcessPoolExecutor, session, future):\n    {body}"
    assert codes(tmp_path, source) == []


def test_a_plain_function_that_async_code_calls_is_on_the_loop(tmp_path: Path) -> None:
    source = "import time\ndef nap():\n    time.sleep(1)\n\nasync def handler():\n    nap()"
    (found,) = findings(tmp_path, source)
    assert (found.code, found.location.line) == ("LP005", 3)
    assert found.message.endswith("in `nap`, which `async def handler` (line 5) calls")


@pytest.mark.parametrize(
    "source",
    [
        "async def lifespan(app):\n    subprocess.run(x)\n    yield",
        "@asynccontextmanager\nasync def life(app):\n    subprocess.run(x)\n    yield",
        "async def boot():\n    subprocess.run(x)\n\napp = FastAPI(lifespan=boot)",
        "@app.on_event('startup')\nasync def boot():\n    await load()\n\nasync def load():\n    subprocess.run(x)",
        "async def main():\n    subprocess.run(x)",
    ],
)
def test_what_runs_before_anything_is_served_may_block(source: str, tmp_path: Path) -> None:
    assert codes(tmp_path, f"import subprocess\n{source}") == []


def test_sleeping_in_an_async_main_is_wrong_all_the_same(tmp_path: Path) -> None:
    assert codes(tmp_path, "import time\nasync def main():\n    time.sleep(1)") == ["LP005"]


# --- LP010, LP011, LP012 ---------------------------------------------------------------------------------------------


def test_get_event_loop_is_found_in_plain_code_too(tmp_path: Path) -> None:
    source = "from asyncio import get_event_loop\ndef work():\n    get_event_loop().run_forever()"
    assert codes(tmp_path, source) == ["LP010"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("async def work():\n    return get_event_loop()", id="in async code, where one runs"),
        pytest.param("def f():\n    try:\n        return get_event_loop()\n    except RuntimeError: ...", id="caught"),
        pytest.param("try:\n    get_event_loop()\nexcept (OSError, Exception): ...", id="caught with others"),
    ],
)
def test_get_event_loop_is_left_alone_where_it_does_not_raise(source: str, tmp_path: Path) -> None:
    assert codes(tmp_path, f"from asyncio import get_event_loop\n{source}") == []


def test_what_is_caught_around_a_definition_is_not_caught_in_it(tmp_path: Path) -> None:
    source = "import asyncio\ntry:\n    def f(): return asyncio.get_event_loop()\nexcept RuntimeError: ..."
    assert codes(tmp_path, source) == ["LP010"]


def test_asking_for_the_client_is_fine_without_such_a_middleware(tmp_path: Path) -> None:
    source = f"{IMPORTS}\nasync def handler(request: Request):\n    await request.is_disconnected()"
    assert codes(tmp_path, source) == []


def test_the_middleware_may_be_in_another_file(tmp_path: Path) -> None:
    handler, middleware = tmp_path / "handler.py", tmp_path / "middleware.py"
    handler.write_text(f"{IMPORTS}\nasync def handler(request: Request):\n    await request.is_disconnected()")
    middleware.write_text(
        "from starlette.middleware.base import BaseHTTPMiddleware\nclass Timing(BaseHTTPMiddleware): ..."
    )
    found = check_files([handler, middleware], RULES.keys()).findings
    assert [(each.code, each.path) for each in found] == [("LP011", handler)]


@pytest.mark.parametrize(
    "start",
    [
        "app = FastAPI(lifespan=pool.lifespan)",
        "app = FastAPI()\ninstall(app, pool)",
        "app = FastAPI()\nsetup(pool=pool)",
        "async def life(app):\n    async with pool:\n        yield\napp = FastAPI(lifespan=life)",
        "app = FastAPI()\n@app.on_event('startup')\nasync def up():\n    await pool.start()",
    ],
)
def test_every_way_to_start_a_pool_is_known(start: str, tmp_path: Path) -> None:
    use = "@app.get('/')\nasync def handler():\n    return await pool.run(len, 'x')"
    assert codes(tmp_path, f"{IMPORTS}\npool = Pool()\n{start}\n{use}") == []


def test_a_pool_that_a_module_without_an_app_makes_is_started_elsewhere(tmp_path: Path) -> None:
    assert codes(tmp_path, f"{IMPORTS}\npool = Pool()\nasync def work():\n    await pool.run(len, 'x')") == []
