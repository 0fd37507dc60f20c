"""A conversation that stays within the model's context: the oldest exchanges go first, the system prompt never."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2

from vllmstack.errors import InvalidInput, Problem, StackError
from vllmstack.host.files import put_whole
from vllmstack.host.gateway_client import trusts_environment

Message = dict[str, Any]
"""``{"role": …, "content": …}``, as OpenAI has it."""

Counter = Callable[[Sequence[Message]], int]
"""Tokens of a chat's prompt, those of the model's chat template included."""

ROLES = ("system", "user", "assistant", "tool")


class Conversation:
    """What was said so far. ``context_tokens`` None: nothing is ever left out.

    >>> talk = Conversation(system="Be brief.", context_tokens=60, answer_tokens=20, count=lambda said: 10 * len(said))
    >>> for number in range(5):
    ...     talk.user(f"Question {number}")
    ...     talk.assistant(f"Answer {number}")
    >>> talk.user("And now?")
    >>> [message["content"] for message in talk.prompt()]
    ['Be brief.', 'Question 4', 'Answer 4', 'And now?']
    """

    def __init__(
        self,
        *,
        system: str | None = None,
        context_tokens: int | None = None,
        answer_tokens: int = 512,
        count: Counter | None = None,
    ) -> None:
        """Begins one.

        Args:
            system: The system prompt; it is always part of the prompt.
            context_tokens: The model's length (``max_model_len``), prompt and answer together.
            answer_tokens: What is kept free for the answer.
            count: How prompts are measured; :func:`server_counter` asks the server that will get them.

        Raises:
            ValueError: a context without a way to count, or one that the answer alone fills.
        """
        if context_tokens is not None and count is None:
            raise ValueError("a conversation with context_tokens needs a way to count them: count=server_counter(…)")
        if context_tokens is not None and answer_tokens >= context_tokens:
            raise ValueError(f"answer_tokens ({answer_tokens}) leaves nothing of context_tokens ({context_tokens})")
        self.system = system
        self.context_tokens = context_tokens
        self.answer_tokens = answer_tokens
        self.messages: list[Message] = []
        """All that was said, the system prompt not among it; nothing is dropped from here."""
        self._count = count

    def user(self, content: str) -> None:
        """What a person says."""
        self.add({"role": "user", "content": content})

    def assistant(self, content: str) -> None:
        """What the model answered."""
        self.add({"role": "assistant", "content": content})

    def add(self, message: Message) -> None:
        """Any message, of a tool for instance.

        Raises:
            ValueError: its role is none.
        """
        if message.get("role") not in ROLES:
            raise ValueError(f"a message's role is one of {', '.join(ROLES)}, not {message.get('role')!r}")
        self.messages.append(message)

    def prompt(self) -> list[Message]:
        """What to send: every system prompt, and as many of the last exchanges as fit.

        An exchange begins with what a person says; its answer and what tools gave go with it. What was said before a
        person said anything, a greeting for instance, is the oldest of them.

        Raises:
            InvalidInput: not even the last one fits.
        """
        if self.context_tokens is None or self._count is None:
            return self._since(0)
        starts = [0, *(index for index, message in enumerate(self.messages) if message["role"] == "user" and index)]
        room = self.context_tokens - self.answer_tokens
        # The fewer are kept the shorter it is: half of the rest is looked at each time, as counting may be a request.
        low, high = 0, len(starts) - 1
        needed = self._count(self._since(starts[high]))
        if needed > room:
            beside = f"{room} fit beside an answer of {self.answer_tokens}"
            fact = f"the last question alone has {needed} tokens, and {beside}"
            raise InvalidInput(Problem(fact=fact, hint="shorten it or the system prompt, or lower `answer_tokens`"))
        while low < high:
            middle = (low + high) // 2
            if self._count(self._since(starts[middle])) <= room:
                high = middle
            else:
                low = middle + 1
        return self._since(starts[high])

    def save(self, file: Path) -> None:
        """Writes it as JSON, whole or not at all.

        Raises:
            OSError: the file cannot be written; what was there before still is.
            TypeError, ValueError: a message holds what JSON cannot.
        """
        kept = {
            "system": self.system,
            "context_tokens": self.context_tokens,
            "answer_tokens": self.answer_tokens,
            "messages": self.messages,
        }
        text = (json.dumps(kept, ensure_ascii=False, indent=1) + "\n").encode()
        put_whole(file, text)

    @classmethod
    def load(cls, file: Path, *, count: Counter | None = None) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            InvalidInput: it is no conversation, or needs ``count`` for its context.
            OSError: it cannot be read.
        """
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["context_tokens"] is not None and count is None:
                fact = f"is a conversation within {kept['context_tokens']} tokens, and nothing counts them"
                raise InvalidInput(Problem(file=str(file), fact=fact, hint="give `count=server_counter(…)`"))
            talk = cls(
                system=kept["system"],
                context_tokens=kept["context_tokens"],
                answer_tokens=kept["answer_tokens"],
                count=count,
            )
            for message in kept["messages"]:
                talk.add(message)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = Problem(file=str(file), fact=f"holds no conversation: {error}", hint="name one that was saved")
            raise InvalidInput(problem) from None
        return talk

    def _since(self, start: int) -> list[Message]:
        """The messages from there on, and the system prompts before."""
        first = [{"role": "system", "content": self.system}] if self.system is not None else []
        system = [message for message in self.messages[:start] if message["role"] == "system"]
        return [*first, *system, *self.messages[start:]]


def server_counter(base_url: str, model: str, api_key: str | None = None) -> Counter:
    """Counts by the server's own tokenizer and the model's own chat template (vLLM's ``/tokenize``).

    ``base_url`` is the one of OpenAI's clients, with or without its ``/v1``.

    Raises, when it counts:
        StackError: the server does not answer, or refuses.
    """
    url = f"{base_url.rstrip('/').removesuffix('/v1')}/tokenize"
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def count(messages: Sequence[Message]) -> int:
        try:
            asked = {"model": model, "messages": list(messages)}
            trust = trusts_environment(url)
            answer = httpx2.post(url, json=asked, headers=headers, timeout=30, trust_env=trust)
            answer.raise_for_status()
            return int(answer.json()["count"])
        except (httpx2.HTTPError, ValueError, KeyError) as error:
            raise StackError(Problem(fact=f"{url} does not count: {error}", hint="see `vllmstack status`")) from None

    return count
