"""A language model as a subject, read through nnsight."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from functional_self.errors import SubjectError
from functional_self.subjects import forward
from functional_self.subjects.base import Message, Progress, Request
from functional_self.subjects.prefix import Group, Row, Tokens, plan

BATCH_TOKENS = 512
"""Tokens per forward pass; on a CPU more is slower, by padding and by memory."""
GENERATE_BATCH = 32
"""Prompts continued together: a step reads all weights once, however many prompts there are."""
Found = TypeVar("Found")


class LanguageSubject:
    """A causal language model loaded by nnsight's ``TransformersModel``; see ``subjects.load``."""

    simulated = False

    def __init__(self, model: Any, name: str, title: str, revision: str, device: str = "cpu", template: str = "chat"):
        self.template = template
        self.model, self.name, self.title, self.revision, self.device = model, name, title, revision, device
        self.tokens_read = 0

    def render(self, messages: Sequence[Message], opened: bool = True) -> str:
        """The prompt text: the subject's own chat template with the assistant's turn ``opened``.

        A subject without a chat template, or told so, reads the turns as plain text, a blank line between them; ``template``
        ``ASKER/ANSWERER`` names who speaks there, and ``raw`` says nothing but the turns' own text.
        """
        if self.template == "raw":
            return self._first + "".join(content for _, content in messages)
        asker, named, answerer = self.template.partition("/")
        if named or self.template == "none" or self.model.tokenizer.chat_template is None:
            who = {"user": asker, "assistant": answerer} if named else {"assistant": "Assistant"}
            said = "".join(f"{who.get(role, role.title())}: {content}\n\n" for role, content in messages)
            return self._first + said + (f"{who['assistant']}: " if opened else "")
        turns = [{"role": role, "content": content} for role, content in messages]
        how = {"enable_thinking": False} if self.template == "no-thinking" else {}
        return self.model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened, **how)

    @cached_property
    def _first(self) -> str:
        """The token that the tokenizer by itself puts before a text, in plain text too; a chat template has its own."""
        tokenizer = self.model.tokenizer
        return tokenizer.bos_token if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else ""

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """log P(option | messages) = sum_t log P(token_t | tokens before it), in nats.

        Prompt and option are tokenised as one string; the option's tokens are those that end after
        the prompt's last character. Tokens that requests share are computed once (``prefix.plan``), a last token, which
        predicts nothing, is not read, and the head runs only where an option's token is predicted. Equal to a full
        forward of every string up to floating-point order.
        """
        unique: dict[tuple[tuple[int, ...], int], int] = {}
        places = [[unique.setdefault(key, len(unique)) for key in self._tokenise(request)] for request in requests]
        targets = [tokens[-n:] for tokens, n in unique]
        groups = plan([tokens[:-1] for tokens, _ in unique], keep=[n for _, n in unique])
        waiting = np.bincount([p for place in places for p in set(place)], minlength=len(unique))
        scores = np.zeros(len(unique))
        credit = 0.0
        for done, values in collected(self._scores(groups, targets)):
            scores[done] = values
            credit += float(waiting[done].sum()) / max(waiting.sum(), 1) * len(requests)
            if progress and credit >= 1:
                progress(int(credit))
                credit -= int(credit)
        if progress and credit:
            progress(round(credit))
        return [tuple(float(scores[p]) for p in place) for place in places]

    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 24,
        temperature: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[str]:
        """One answer to every prompt, sampled from the whole distribution at ``temperature`` and cut at ``max_new_tokens``.

        Prompts are padded on the left in batches of similar length; each batch starts from ``seed`` plus its number,
        so the same requests give the same answers on the same machine.
        """
        prompts = [self.render(request.messages) for request in requests]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers = [""] * len(prompts)
        tokenizer = self.model.tokenizer
        tokenizer.padding_side = "left"
        tokenizer.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        how = {"max_new_tokens": max_new_tokens, "pad_token_id": tokenizer.pad_token_id}
        how |= {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        batches = [order[start : start + GENERATE_BATCH] for start in range(0, len(order), GENERATE_BATCH)]
        encoded = [
            tokenizer([prompts[i] for i in batch], return_tensors="pt", padding=True, add_special_tokens=False)
            for batch in batches
        ]
        inputs = [(each["input_ids"], each["attention_mask"]) for each in encoded]
        for batch, (ids_BL, _), more_BM in zip(batches, inputs, collected(self._continue(inputs, seed, how)), strict=True):
            self.tokens_read += ids_BL.numel() + more_BM.numel()
            for i, text in zip(batch, tokenizer.batch_decode(more_BM, skip_special_tokens=True), strict=True):
                answers[i] = text.strip()
            if progress:
                progress(len(batch))
        return answers

    def layer_rows(self, batches: Sequence[tuple[torch.Tensor, ...]], layer: int) -> Iterator[torch.Tensor]:
        """The residual stream after block ``layer`` at the kept tokens (N x D) of each batch; see ``activations.harvest``."""
        blocks = self.model.config.num_hidden_layers
        if not 0 <= layer < blocks:
            raise SubjectError(f"subject '{self.name}': layer {layer} is not there; it has layers 0 to {blocks - 1}")
        self.tokens_read += sum(ids_BL.numel() for ids_BL, *_ in batches)
        yield from collected(self._rows(batches, layer))

    def _rows(self, batches: Sequence[tuple[torch.Tensor, ...]], layer: int) -> Iterator[torch.Tensor]:
        yield from forward.rows(self.model, batches, layer)

    def _tokenise(self, request: Request) -> Iterator[tuple[tuple[int, ...], int]]:
        """Token ids of prompt + option, and how many of the last ones carry the option's text."""
        prompt = self.render(request.messages)
        encoded = self.model.tokenizer(
            [prompt + option for option in request.options], add_special_tokens=False, return_offsets_mapping=True
        )
        for option, ids, spans in zip(request.options, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            n = sum(end > len(prompt) for _, end in spans)
            if not 0 < n < len(ids):
                raise SubjectError(f"subject '{self.name}': option {option!r} has no tokens after its prompt")
            yield tuple(ids), n

    def _scores(self, groups: Sequence[Group], targets: Sequence[Tokens]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Sequence indices and their scores, a batch of rows at a time."""
        for group in groups:
            index, batches = zip(*_batches(group, targets), strict=True)
            self.tokens_read += group.cost
            for done, values_S in zip(index, forward.scores(self.model, group.prefix, batches), strict=True):
                yield done, values_S.numpy()

    def _continue(
        self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], seed: int, how: dict[str, Any]
    ) -> Iterator[torch.Tensor]:
        """Token ids that follow each batch of left-padded prompts."""
        yield from forward.continuations(self.model, list(enumerate(batches)), seed, how)


def collected(found: Iterable[Found], every: int = 8) -> Iterator[Found]:
    """What is found, as it comes; every few, Python's collector is called: a trace is a cycle that keeps its tensors."""
    for number, each in enumerate(found, 1):
        yield each
        if number % every == 0:
            gc.collect()


def _batches(group: Group, targets: Sequence[Tokens]) -> Iterator[tuple[list[int], forward.Batch]]:
    """A group's rows in batches of similar length, each with the indices of its sequences."""
    rows = sorted(group.rows, key=lambda row: -len(row.tokens_N))
    while rows:
        size = max(1, BATCH_TOKENS // len(rows[0].tokens_N))
        batch, rows = rows[:size], rows[size:]
        yield [s for row in batch for s in row.index], pack(batch, targets)


def pack(batch: Sequence[Row], targets: Sequence[Tokens]) -> forward.Batch:
    """B rows as tensors; the last nodes of sequence s predict its ``targets[s]``."""
    B, N = len(batch), max(len(row.tokens_N) for row in batch)
    ids_BN = torch.zeros(B, N, dtype=torch.long)
    depth_BN = torch.zeros(B, N, dtype=torch.long)
    tree_BNN = torch.eye(N, dtype=torch.bool).repeat(B, 1, 1)  # padding sees itself: no empty softmax
    places: dict[tuple[int, int], int] = {}
    picks: list[tuple[int, int, int]] = []
    sequences = 0
    for b, row in enumerate(batch):
        n = len(row.tokens_N)
        ids_BN[b, :n] = torch.from_numpy(row.tokens_N)
        depth_BN[b, :n] = torch.from_numpy(row.depth_N)
        tree_BNN[b, :n, :n] = torch.from_numpy(row.ancestors_NN)
        for s, path in zip(row.index, row.paths, strict=True):
            nodes = path[-len(targets[s]) :]
            picks += [
                (places.setdefault((b, int(at)), len(places)), t, sequences) for at, t in zip(nodes, targets[s], strict=True)
            ]
            sequences += 1
    return forward.Batch(ids_BN, depth_BN, tree_BNN, torch.tensor(list(places)), torch.tensor(picks), sequences)
