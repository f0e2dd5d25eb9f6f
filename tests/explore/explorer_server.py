"""The explorer as a process of its own, to be asked without a browser."""

import importlib.util
import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from run_helpers import ROOT

ELSEWHERE = "another-machine.test"  # to the browser an address like any other in a network


@dataclass(frozen=True)
class Server:
    """The explorer's address, and the folders of the test and of the server."""

    address: str
    folder: Path
    temporary: Path

    def ask(self, path: str, content: Any = None, **headers: str) -> tuple[int, str]:
        """Sends a request, with JSON or bytes if any are given; returns status and text of the answer."""
        connection = HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        body = content if content is None or isinstance(content, bytes) else json.dumps(content)
        kind = {"Content-Type": "application/json"} if body is not content else {}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if content is None else "POST", path, body, kind | given)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def functions(self, path: str) -> list[dict[str, Any]]:
        """What a page can have computed."""
        found = re.search(r"window.gradio_config = (.*?);</script>", self.ask(path)[1], re.DOTALL)
        assert found
        return [of for of in json.loads(found[1])["dependencies"] if of["backend_fn"]]

    def call(self, path: str, function: dict[str, Any], data: list) -> str:
        """What comes of a function."""
        session = f"session{function['id']}"
        asked = {"data": data, "fn_index": function["id"], "session_hash": session}
        if not function["queue"]:
            return self.ask(f"{path}gradio_api/run/predict", asked)[1]
        self.ask(f"{path}gradio_api/queue/join", asked)
        return self.ask(f"{path}gradio_api/queue/data?session_hash={session}")[1]

    def kept(self) -> list[str]:
        """Files that the server holds, other than the empty ones that Gradio leaves."""
        return [path.name for path in self.temporary.rglob("*") if path.is_file() and path.stat().st_size]


def python_with_gradio() -> str:
    """The Python of `bash run.sh explore`, or this one; skips where neither has Gradio."""
    own = ROOT / ".venv-explore" / "bin" / "python"
    if own.exists() and subprocess.run([own, "-c", "import gradio"], capture_output=True).returncode == 0:
        return str(own)
    if importlib.util.find_spec("gradio"):
        return sys.executable
    pytest.skip("no Gradio: bash run.sh explore installs it")


def listens(port: int) -> bool:
    """Whether something answers at a port."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
