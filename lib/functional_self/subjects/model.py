"""A language model as a subject, read through nnsight."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from functional_self.errors import SubjectError
from functional_self.subjects.base import Message, Progress, Request
from functional_self.subjects.prefix import Group, Row, plan

BATCH_TOKENS = 1024
"""Tokens per forward pass; more only costs memory on a CPU."""
GENERATE_BATCH = 16
"""Prompts continued together."""


class LanguageSubject:
    """A causal language model loaded by nnsight's ``TransformersModel``; see ``subjects.load``."""

    simulated = False

    def __init__(self, model: Any, name: str, title: str, revision: str, device: str = "cpu"):
        self.model, self.name, self.title, self.revision, self.device = model, name, title, revision, device
        self.tokens_read = 0

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt text: the subject's own chat template with the assistant's turn opened.

        A subject without a chat template reads the turns as plain text, a blank line between them.
        """
        turns = [{"role": role, "content": content} for role, content in messages]
        if self.model.tokenizer.chat_template is None:
            return "".join(f"{role.title()}: {content}\n\n" for role, content in messages) + "Assistant: "
        return self.model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """log P(option | messages) = sum_t log P(token_t | tokens before it), in nats.

        Prompt and option are tokenised as one string; the option's tokens are those that end after
        the prompt's last character. Tokens that requests share are computed once (``prefix.plan``), and
        the head runs only where an option's token is predicted. Equal to a full forward of every string
        up to floating-point order.
        """
        unique: dict[tuple[tuple[int, ...], int], int] = {}
        places = [[unique.setdefault(key, len(unique)) for key in self._tokenise(request)] for request in requests]
        sequences = [tokens for tokens, _ in unique]
        lengths = [n for _, n in unique]
        waiting = np.bincount([p for place in places for p in set(place)], minlength=len(unique))
        scores = np.zeros(len(unique))
        credit = 0.0
        for group in plan(sequences, keep=[n + 1 for n in lengths]):
            for done, values in self._score(group, lengths):
                scores[done] = values
                credit += float(waiting[done].sum()) / max(waiting.sum(), 1) * len(requests)
                if progress and credit >= 1:
                    progress(int(credit))
                    credit -= int(credit)
        if progress and credit:
            progress(round(credit))
        return [tuple(float(scores[p]) for p in place) for place in places]

    @torch.inference_mode()
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
        for number, start in enumerate(range(0, len(order), GENERATE_BATCH)):
            batch = order[start : start + GENERATE_BATCH]
            encoded = tokenizer([prompts[i] for i in batch], return_tensors="pt", padding=True, add_special_tokens=False)
            inputs = {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}
            with torch.random.fork_rng():
                torch.manual_seed(seed + number)
                with self.model.generate(inputs, **how) as tracer:
                    ids_BN = tracer.result.cpu().save()
            self.tokens_read += ids_BN.numel()
            texts = tokenizer.batch_decode(ids_BN[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for i, text in zip(batch, texts, strict=True):
                answers[i] = text.strip()
            if progress:
                progress(len(batch))
        return answers

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

    @torch.inference_mode()
    def _score(self, group: Group, lengths: Sequence[int]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Run a group's rows in batches of similar length; yield sequence indices and their scores."""
        prefix = self._prefix(group)
        rows = sorted(group.rows, key=lambda row: -len(row.tokens_N))
        while rows:
            size = max(1, BATCH_TOKENS // len(rows[0].tokens_N))
            batch, rows = rows[:size], rows[size:]
            self.tokens_read += sum(len(row.tokens_N) for row in batch)
            yield self._forward(batch, prefix, len(group.prefix), lengths)

    def _prefix(self, group: Group) -> DynamicCache | None:
        """Keys and values of the group's shared prefix, computed once."""
        if not group.prefix:
            return None
        cache = DynamicCache()
        self.tokens_read += len(group.prefix)
        with self.model.trace(torch.tensor([group.prefix], device=self.device), past_key_values=cache, use_cache=True) as tracer:
            self.model.model.norm.output.save()
            tracer.stop()
        return cache

    def _forward(
        self, batch: Sequence[Row], prefix: DynamicCache | None, skip: int, lengths: Sequence[int]
    ) -> tuple[list[int], np.ndarray]:
        """One nnsight trace over B packed rows: hidden states at the predicting nodes, head there only."""
        B, N = len(batch), max(len(row.tokens_N) for row in batch)
        ids_BN = torch.zeros(B, N, dtype=torch.long)
        position_BN = torch.zeros(B, N, dtype=torch.long)
        visible_BNK = torch.zeros(B, N, skip + N, dtype=torch.bool)
        visible_BNK[..., :skip] = True
        visible_BNK[:, torch.arange(N), skip + torch.arange(N)] = True  # padding sees itself: no empty softmax
        where: list[tuple[int, int, int, int]] = []
        for b, row in enumerate(batch):
            n = len(row.tokens_N)
            ids_BN[b, :n] = torch.from_numpy(row.tokens_N)
            position_BN[b, :n] = torch.from_numpy(row.depth_N) + skip
            visible_BNK[b, :n, skip : skip + n] = torch.from_numpy(row.ancestors_NN)
            for s, path in zip(row.index, row.paths, strict=True):
                nodes = path[-lengths[s] - 1 :]
                where += [(b, int(at), int(row.tokens_N[to]), s) for at, to in itertools.pairwise(nodes)]
        row_P, node_P, token_P, sequence_P = (torch.tensor(column) for column in zip(*where, strict=True))
        cache = None
        if prefix is not None:
            cache = copy.deepcopy(prefix)
            cache.batch_repeat_interleave(B)
        inputs = {"input_ids": ids_BN, "attention_mask": visible_BNK[:, None], "position_ids": position_BN}
        inputs = {key: value.to(self.device) for key, value in inputs.items()}
        token_P1 = token_P[:, None].to(self.device)
        with self.model.trace(inputs, past_key_values=cache, use_cache=cache is not None) as tracer:
            hidden_PD = self.model.model.norm.output[row_P, node_P]
            logprob_P = self.model.lm_head(hidden_PD).log_softmax(-1).gather(1, token_P1)[:, 0].cpu().save()
            tracer.stop()
        index = [s for row in batch for s in row.index]
        total = np.zeros(len(lengths))
        np.add.at(total, sequence_P.numpy(), logprob_P.double().numpy())
        return index, total[index]
