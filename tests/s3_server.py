"""An S3 server on this machine (moto) that fails as stores do when it is told to, for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG"
_CODES = {"SlowDown": "503 Slow Down", "InternalError": "500 Internal Error", "InvalidAccessKeyId": "403 Forbidden"}


class FailingS3:
    """Moto's application behind one that answers some requests itself."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self.faults: list[tuple[str, str, str, list[int]]] = []
        self.failed: list[str] = []

    def fault(self, method: str, end: str, kind: str, times: int) -> None:
        """The next requests of a method for a path with this end fail."""
        self.faults.append((method, end, kind, [times]))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if KEY not in environ.get("HTTP_AUTHORIZATION", ""):
            return self._error("InvalidAccessKeyId", environ, start_response)
        for wanted, end, kind, left in self.faults:
            if method == wanted and path.endswith(end) and left[0]:
                left[0] -= 1
                self.failed.append(kind)
                if kind == "truncated":
                    return self._truncated(environ, start_response)
                return self._error(kind, environ, start_response)
        return self._app(environ, start_response)

    def _error(self, code: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()
        start_response(_CODES[code], [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def _truncated(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = b"".join(self._app(environ, start_response))
        return [body[: len(body) // 2]]


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[FailingS3, dict[str, str]]]:
    """The server with a bucket called ``bucket``, and the environment of its users."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = FailingS3(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    try:
        yield app, environment
    finally:
        server.shutdown()
        thread.join()
