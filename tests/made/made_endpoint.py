"""A local server that speaks both labelling protocols, as well or as badly as a test wants."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str, dict[str, str]]  # status, text, headers


class MadeServer:
    """Keeps what it was asked; `reply` decides what comes back: a text, or a status with headers."""

    def __init__(self, reply: Callable[[str, int], str | Answer]):
        self.reply, self.asked, self.headers, self.lock = reply, [], [], threading.Lock()

    def answer(self, question: str, headers: dict[str, str]) -> Answer:
        with self.lock:
            self.asked.append(question)
            self.headers.append(headers)
            n = len(self.asked)
        found = self.reply(question, n)
        return found if isinstance(found, tuple) else (200, found, {})


@contextmanager
def served(reply: Callable[[str, int], str | Answer]) -> Iterator[tuple[str, MadeServer]]:
    """(the url, the server)"""
    made = MadeServer(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, text, headers = made.answer(body["messages"][-1]["content"], {k.lower(): v for k, v in self.headers.items()})
            data = json.dumps(content(self.path, body, text) if status == 200 else {"error": {"message": text}}).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", made
    finally:
        server.shutdown()
        server.server_close()


def content(path: str, body: dict, text: str) -> dict:
    if path.endswith("/chat/completions"):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
    assert path.endswith("/v1/messages"), path
    usage = {"input_tokens": 1, "output_tokens": 1}
    blocks = [{"type": "text", "text": text}]
    return {"id": "x", "type": "message", "role": "assistant", "model": body["model"], "content": blocks, "stop_reason": "end_turn"} | {
        "usage": usage
    }


def about_cat(question: str, n: int) -> str:
    """An honest model for a feature that is active at " cat": it finds the word, and the marks on it."""
    if "Say in at most" in question:
        return 'Sure: {"label": "the word cat"}'
    texts = re.findall(r"^\d+\. (.*)$", question, re.MULTILINE)
    if "Rate for each" in question:
        return json.dumps({"ratings": [3 if "« cat»" in text else 1 if "cat" in text else 0 for text in texts]})
    word = "« cat»" if "«»" in question else "cat"
    return json.dumps({"numbers": [i for i, text in enumerate(texts, start=1) if word in text]})
