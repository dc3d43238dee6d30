"""What a subject is to the rest of the library: something that gives option texts log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Message = tuple[Literal["system", "user", "assistant"], str]


@dataclass(frozen=True)
class Request:
    """One prompt and the option texts whose log-probabilities are wanted.

    ``messages`` end with the user's turn; ``options`` are in the order shown. The rest is for simulated
    responders only, a language model sees nothing but the text: ``item`` (class/id), ``wording`` (item,
    paraphrase, context and persona), and the indices of the trait-positive option (``plus``), of the one that
    affirms the question (``affirms``) and of the right answer to a known question (``right``), None where there
    is no such option; ``persona`` is who the system message addresses, ``specification`` the id of what it says, and ``stripped``
    says that nothing in the prompt gives the subject its role.
    """

    messages: tuple[Message, ...]
    options: tuple[str, ...]
    item: str = ""
    wording: str = ""
    plus: int = 0
    affirms: int | None = None
    right: int | None = None
    persona: str = ""
    specification: str = ""
    stripped: bool = False


Progress = Callable[[int], object]
"""Called with the number of requests just finished."""


class Subject(Protocol):
    """A language model or a simulated responder."""

    name: str
    title: str
    revision: str
    simulated: bool

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """log P(option | messages) in nats, summed over the option's tokens, for every request."""
        ...

    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 24,
        temperature: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[str]:
        """One sampled answer to every prompt; temperature 0 takes the likeliest token."""
        ...
