"""Requests that no page makes: for files of the user's, for other servers' addresses, from other servers' pages."""

import json
import socket

import pytest
from explorer_server import ELSEWHERE, Server

from experiments.explore.guard import Guard, own_names

PAGES = ("/fraud/transactions/", "/celeba/faces/")


def given_as_upload(path: str) -> dict:
    """What Gradio takes for an uploaded file."""
    return {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("page", PAGES)
def test_a_file_that_was_not_uploaded_is_neither_read_nor_copied(server: Server, page: str) -> None:
    private = server.folder / "private.csv"
    private.write_text("something private\n")
    refused = 0
    for function in server.functions(page):
        answer = server.call(page, function, [given_as_upload(str(private))] * len(function["inputs"]))
        assert "something private" not in answer
        refused += "not uploaded by a user" in answer
    assert refused >= 4
    assert private.exists()
    assert server.kept() == []


@pytest.mark.parametrize("page", PAGES)
def test_no_address_is_fetched(server: Server, page: str) -> None:
    address = "https://example.com/rows.csv"
    answers = [
        server.call(page, function, [given_as_upload(address)] * len(function["inputs"]))
        for function in server.functions(page)
    ]
    assert sum(f"{address}: not an uploaded file" in answer for answer in answers) >= 4
    assert server.kept() == []


@pytest.mark.parametrize(
    "asked",
    [
        "file=/etc/hostname",
        "file/etc/hostname",
        "proxy=https://a.hf.space/",
        "info",
        "stream/a/0/1/playlist.m3u8",
        "call/a",
    ],
)
def test_what_no_page_asks_of_gradio_is_not_there(server: Server, asked: str) -> None:
    for way in ("", "assets/../", "static/../"):
        status, answer = server.ask(f"/fraud/transactions/{way}gradio_api/{asked}")
        assert status in (403, 404), answer
    assert server.ask("/fraud/transactions/monitoring/summary") == (404, "no such page\n")
    assert server.ask("/fraud/transactions/config") == (404, "no such page\n")


def test_an_uploaded_file_stays_in_the_folder_of_uploads_and_can_not_be_fetched(server: Server) -> None:
    lines = ["--x", 'Content-Disposition: form-data; name="files"; filename="../../escaped.csv"', "", "a", "--x--", ""]
    kind = {"Content_Type": "multipart/form-data; boundary=x"}
    status, answer = server.ask("/fraud/transactions/gradio_api/upload", "\r\n".join(lines).encode(), **kind)
    assert status == 200
    (path,) = json.loads(answer)
    (folder,) = server.temporary.glob("vae_jax_explore_*")
    (found,) = server.temporary.rglob("escaped.csv")
    try:
        assert str(found) == path
        assert found.is_relative_to(folder)
        assert server.ask(f"/fraud/transactions/gradio_api/file={path}") == (404, "no such page\n")
    finally:
        found.unlink()


def test_too_long_a_request_is_refused(server: Server) -> None:
    assert server.ask("/celeba/faces/gradio_api/component_server/", b" " * 1_000_001)[0] == 413
    assert server.ask("/celeba/faces/gradio_api/upload", b" " * (2**20 + 1_000_001))[0] == 413


def test_a_page_of_another_server_gets_no_answer(server: Server) -> None:
    host = server.address.removeprefix("http://")
    for origin in ("http://evil.test", "http://127.0.0.1:1", "null"):
        assert server.ask("/", Origin=origin) == (403, f"a page of {origin} may not ask {host}\n")
    assert server.ask("/", Origin=server.address)[0] == 200
    message = "'evil.test' is no name of this server; if it should be, add --names evil.test\n"
    assert server.ask("/", Host="evil.test:7860") == (400, message)
    assert server.ask("/", Host=ELSEWHERE)[0] == 200


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost:7860", True),
        ("LOCALHOST", True),
        ("localhost.:7860", True),
        ("127.0.0.1", True),
        ("192.168.1.5:80", True),
        ("[::1]:7860", True),
        ("server.example.com:7860", True),
        ("example.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("evil.test#[::1]", False),
        ("localhost@evil.test", False),
        ("[localhost]", False),
        ("localhost:7860:1", False),
        ("", False),
    ],
)
def test_a_server_is_known_by_its_names_and_by_any_address(host: str, answered: bool) -> None:
    guard = Guard(None, ["fraud/a"], own_names("127.0.0.1", ["Server.example.com"]), 1)
    refused = guard.refusal("/", {b"host": host.encode()})
    assert (refused is None) == answered
    assert refused is None or refused[0] == 400


def test_a_server_for_others_has_the_names_of_its_machine_as_well() -> None:
    assert socket.gethostname().lower() in own_names("0.0.0.0", [])
    assert own_names("127.0.0.1", []) == {"localhost", "127.0.0.1"}
    assert "server.example.com" in own_names("server.example.com", [])
