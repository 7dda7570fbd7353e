"""Questions to a language model behind an endpoint, each paid for once.

    endpoint = Endpoint("gpt-…", store="answers.jsonl")                       api.openai.com, key from OPENAI_API_KEY
    endpoint = Endpoint("claude-…", api="anthropic", …)                       api.anthropic.com, key from ANTHROPIC_API_KEY
    endpoint = Endpoint("qwen", url="http://localhost:8000/v1", …)            any server that speaks one of the two protocols; no key

Every answer that could be read is kept in `store`, a line each, and is never asked for again: a run that was stopped goes on from there.
The endpoints' own clients (extra [label]) send, wait and try again; keys come from the environment and are written nowhere. A key of the
default endpoint is not sent to another url: name its variable with key_variable.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from workbench.files import writing

Read = TypeVar("Read")
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
MOST_TOKENS = 2048  # of an answer
N_READ = 3  # times a question is asked whose answer cannot be read


class Unanswered(ValueError):
    """The endpoint gave no answer, or none that could be read, however often it was asked."""


@dataclass(frozen=True)
class Endpoint:
    """A language model behind an HTTP protocol; its answers are kept in `store`, so that none is paid for twice."""

    model: str
    store: str | Path
    api: str = "openai"  # the protocol: "openai" or "anthropic"
    url: str | None = None
    key_variable: str | None = None  # the environment variable that holds the key
    n_per_minute: float | int = 300  # requests
    timeout: float | int = 60  # seconds for one answer
    n_retries: int = 4  # after a failed request, with growing pauses, or as long as the server says
    _lock: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.api not in KEYS:
            raise ValueError(f"api={self.api!r}: expected one of {', '.join(KEYS)}")
        if not self.model:
            raise ValueError("which model? Endpoint needs its name, as the endpoint knows it")
        if self.n_per_minute <= 0:
            raise ValueError(f"n_per_minute={self.n_per_minute}: expected more than 0 requests")

    def ask(self, system: str, question: str, read: Callable[[str], Read]) -> Read:
        """What `read` makes of the answer. read raises ValueError for an answer that makes no sense; then the question is asked again.

        Raises Unanswered when the endpoint is down, refuses, or answers nonsense N_READ times.
        """
        name = hashlib.sha256("\0".join([self.api, self.url or "", self.model, system, question]).encode("utf-8", "replace")).hexdigest()
        with self._lock:
            kept = self._answers.get(name)
        if kept is not None:
            return read(kept)
        problem = ""
        for _ in range(N_READ):
            answer = self._request(system, question)
            try:
                found = read(answer)
            except ValueError as error:
                problem = str(error)
                continue
            self._keep(name, answer)
            return found
        raise Unanswered(f"{self.where} answered {N_READ} times what cannot be read: {problem}")

    @property
    def where(self) -> str:
        """Which model, where: for messages."""
        return f"{self.model} at {self.url or f'api.{self.api}.com'}"

    def _request(self, system: str, question: str) -> str:
        self._wait()
        client, errors = self._client
        try:
            return _SEND[self.api](client, self.model, system, question)
        except errors as error:
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unanswered(f"no answer from {self.where} after {self.n_retries + 1} tries: {type(error).__name__}: {what}") from None

    def _wait(self) -> None:
        """Until the next request is due; requests of all threads are spaced evenly."""
        with self._lock:
            due = self.__dict__.get("_due", 0.0)
            now = time.monotonic()
            self.__dict__["_due"] = max(due, now) + 60 / self.n_per_minute
        time.sleep(max(0.0, due - now))

    @cached_property
    def _client(self) -> tuple[Any, type[Exception]]:
        options: dict[str, Any] = dict(api_key=self._key(), timeout=self.timeout, max_retries=self.n_retries)
        options |= {"base_url": self.url} if self.url else {}
        try:
            if self.api == "openai":
                import openai  # pyright: ignore[reportMissingImports]: an extra

                return openai.OpenAI(**options), openai.OpenAIError
            import anthropic  # pyright: ignore[reportMissingImports]: an extra

            return anthropic.Anthropic(**options), anthropic.AnthropicError
        except ImportError:
            raise ValueError(f"{self.api} needs its client: pip install 'circuit-workbench[label]'") from None

    def _key(self) -> str:
        variable = self.key_variable or ("" if self.url else KEYS[self.api])
        if not variable:
            return "none"  # a server of one's own asks for no key; the clients want something to send
        if not os.environ.get(variable):
            raise ValueError(f"{self.where} needs a key in the environment variable {variable}, which is not set")
        return os.environ[variable]

    @cached_property
    def _answers(self) -> dict[str, str]:
        """Kept answers by their question's hash. The last line of a run that was killed may be cut: it counts as not there."""
        found, path = {}, Path(self.store)
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    kept = json.loads(line)
                    found[str(kept["question"])] = str(kept["answer"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
        return found

    def _keep(self, name: str, answer: str) -> None:
        with self._lock:
            self._answers[name] = answer
            with writing(Path(self.store)), open(self.store, "a", encoding="utf-8") as file:
                file.write("\n" * (file.tell() > 0) + json.dumps({"question": name, "answer": answer}))
                file.flush()
                os.fsync(file.fileno())


def _by_openai(client: Any, model: str, system: str, question: str) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    choices = client.chat.completions.create(model=model, messages=messages).choices
    return (choices[0].message.content or "") if choices else ""


def _by_anthropic(client: Any, model: str, system: str, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    parts = client.messages.create(model=model, max_tokens=MOST_TOKENS, system=system, messages=messages).content
    return "".join(part.text for part in parts or [] if part.type == "text")


_SEND = {"openai": _by_openai, "anthropic": _by_anthropic}
