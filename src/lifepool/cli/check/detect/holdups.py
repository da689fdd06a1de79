"""The tables behind LP005, LP006 and LP007.

What is here holds a thread up for milliseconds or more whatever its arguments are, in nearly every program. What
depends on them (``re``, ``json``, ``open``, sums over arrays) is not: a rule that is wrong half of the time is
switched off.
"""

from __future__ import annotations

from lifepool.cli.check.detect.known import EXECUTORS
from lifepool.cli.check.tables import methods, words

_HTTP_VERBS = "get post put delete patch head options request"
_THREAD = "use `await asyncio.to_thread(...)`"
_HTTPX = "use `httpx.AsyncClient`"
_PROCESS = "use `await asyncio.create_subprocess_exec(...)`"
_DNS = "use `await loop.getaddrinfo(...)`"
_DATABASE = "use an async driver, or `await asyncio.to_thread(...)`"
_SLEEP = "time.sleep"

#: A call, or all calls of methods of an object (with a dot at the end), and what to use instead.
_WAITS: dict[str, str] = {
    _SLEEP: "use `await asyncio.sleep(...)`",
    **dict.fromkeys(methods("requests requests.Session() requests.session()", _HTTP_VERBS), _HTTPX),
    **dict.fromkeys(methods("httpx httpx.Client()", f"{_HTTP_VERBS} stream"), _HTTPX),
    "httpx.Client().send": _HTTPX,
    "urllib.request.urlopen": _HTTPX,
    "urllib.request.urlretrieve": _HTTPX,
    "urllib3.PoolManager().request": _HTTPX,
    **dict.fromkeys(methods("subprocess", "run call check_call check_output getoutput getstatusoutput"), _PROCESS),
    **dict.fromkeys(methods("subprocess.Popen()", "wait communicate"), _PROCESS),
    "os.system": _PROCESS,
    "os.popen": _PROCESS,
    "os.waitpid": _PROCESS,
    "socket.create_connection": "use `await asyncio.open_connection(...)`",
    **dict.fromkeys(methods("socket", "getaddrinfo gethostbyname gethostbyaddr getfqdn"), _DNS),
    "input": _THREAD,
    **dict.fromkeys(methods("shutil", "copytree rmtree make_archive unpack_archive"), _THREAD),
    "zipfile.ZipFile().extractall": _THREAD,
    "tarfile.open().extractall": _THREAD,
    "queue.Queue().get": "use `asyncio.Queue`",
    "queue.SimpleQueue().get": "use `asyncio.Queue`",
    "multiprocessing.Queue().get": _THREAD,
    "multiprocessing.Process().join": _THREAD,
    "threading.Thread().join": _THREAD,
    "threading.Event().wait": "use `asyncio.Event`",
    **dict.fromkeys(("psycopg2.connect", "pymysql.connect", "MySQLdb.connect", "psycopg.connect"), _DATABASE),
    **dict.fromkeys(methods("smtplib.SMTP() smtplib.SMTP_SSL()", "sendmail send_message"), _THREAD),
}

_TASK_METHODS = "apply map starmap join"
#: Waiting for what other processes or threads compute.
ANSWERS = (
    methods(EXECUTORS, "submit().result submit().exception")
    | methods(EXECUTORS, "map shutdown")
    | methods("concurrent.futures", "wait as_completed")
    | {"asyncio.run_coroutine_threadsafe().result", "joblib.Parallel()"}
    | methods("multiprocessing.Pool()", _TASK_METHODS)
    | methods("multiprocessing.Pool().apply_async() multiprocessing.Pool().map_async()", "get wait")
    | {"pebble.ProcessPool().schedule().result", "pebble.ProcessPool().join"}
)

_LINEAR_ALGEBRA = "cholesky det eig eigh eigvals inv lstsq matrix_power pinv qr solve svd"
_READERS = "read_csv read_excel read_feather read_fwf read_hdf read_html read_json read_parquet read_xml"
_HEAVY: frozenset[str] = (
    methods("hashlib", "pbkdf2_hmac scrypt")
    | methods("bcrypt", "hashpw checkpw kdf")
    | methods("passlib.context.CryptContext() passlib.hash.bcrypt passlib.hash.argon2", "hash verify")
    | methods("argon2.PasswordHasher()", "hash verify")
    | {"cryptography.hazmat.primitives.asymmetric.rsa.generate_private_key"}
    | methods("zlib gzip bz2 lzma", "compress decompress")
    | methods("numpy.linalg scipy.linalg", _LINEAR_ALGEBRA)
    | methods("numpy", "load loadtxt genfromtxt")
    | methods("pandas polars", _READERS)
    | methods("cv2", "imread imwrite imdecode imencode resize cvtColor GaussianBlur dnn")
    | methods("joblib torch", "load")
    | {"sklearn.model_selection.cross_val_score", "sklearn.model_selection.train_test_split"}
    | {"transformers.pipeline", "transformers.pipeline()", "spacy.load", "spacy.load()", "whisper.load_model"}
    | {"sentence_transformers.SentenceTransformer", "sentence_transformers.SentenceTransformer().encode"}
    | {"whisper.load_model().transcribe", "faster_whisper.WhisperModel().transcribe"}
    | methods("pytesseract", "image_to_string image_to_data image_to_pdf_or_hocr")
    | {"pdfplumber.open", "fitz.open", "pymupdf.open", "pypdf.PdfReader", "pdf2image.convert_from_bytes"}
    | {"pdf2image.convert_from_path", "pdfminer.high_level.extract_text", "docx.Document", "openpyxl.load_workbook"}
    | {"bs4.BeautifulSoup", "lxml.html.fromstring", "trafilatura.extract", "readability.Document"}
    | {"difflib.SequenceMatcher().ratio"}
)
#: Methods of whatever comes from a library, if they have one of these names.
_HEAVY_METHODS: tuple[tuple[str, frozenset[str]], ...] = (
    ("PIL.Image.open().", words("convert filter load quantize resize rotate save thumbnail transform")),
    ("PIL.ImageOps.", words("autocontrast contain cover exif_transpose fit pad scale")),
    ("sklearn.", words("fit fit_predict fit_transform partial_fit predict predict_proba score transform")),
    ("joblib.load().", words("fit predict predict_proba transform")),
    ("pickle.load().", words("fit predict predict_proba transform")),
    ("xgboost.", words("fit predict predict_proba train")),
    ("lightgbm.", words("fit predict predict_proba train")),
)


def waits(name: str) -> str | None:
    """Return what to use instead, if the call waits for something outside of the process."""
    return _WAITS.get(name)


def heavy(name: str) -> bool:
    """Return whether the call computes for long."""
    if name in _HEAVY:
        return True
    method = name.rpartition(".")[2]
    return any(name.startswith(prefix) and method in names for prefix, names in _HEAVY_METHODS)


def always_wrong(name: str) -> bool:
    """Tell whether a call does not belong in async code, not even in a program that does nothing else."""
    return name == _SLEEP
