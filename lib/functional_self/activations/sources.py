"""The forward passes of n sources over the same tokens: each ends at the layer, and what adapters share is computed once.

Letters: B texts of a batch, L tokens of a text, N tokens kept, d the residual stream.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from nnsight import save
from safetensors import safe_open

from functional_self.activations.tokens import Text, describe, module
from functional_self.errors import SubjectError
from functional_self.subjects import adapters
from functional_self.subjects.model import LanguageSubject
from functional_self.subjects.shared import SharedSubject, attach

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Ids, mask and which tokens to keep, B x L each."""


def check(sources: Sequence[LanguageSubject], layer: int) -> int:
    """The width that all sources share; SubjectError where one has no such layer, another width, or none is named."""
    if not sources:
        raise SubjectError("activations: no source is named; name at least one subject")
    widths = {source.name: int(module(source).config.hidden_size) for source in sources}
    for source in sources:
        blocks = module(source).config.num_hidden_layers
        if not 0 <= layer < blocks:
            raise SubjectError(f"subject '{source.name}': layer {layer} is not there; it has layers 0 to {blocks - 1}")
    (first, width), *others = widths.items()
    for name, other in others:
        if other != width:
            raise SubjectError(f"subject '{name}': rows are {other} wide, those of '{first}' {width}; sources must share a width")
    return width


def same_tokens(sources: Sequence[LanguageSubject], index: int, text: Text, token_L: list[int]) -> None:
    """Raise SubjectError, naming two sources, where one reads other tokens than the first does."""
    first = sources[0]
    for other in sources[1:]:
        if module(other) is module(first) and other.template == first.template:
            continue
        found_L = describe(other, index, text)["token"].tolist()
        if found_L != token_L:
            at = next((i for i, (a, b) in enumerate(zip(token_L, found_L)) if a != b), min(len(token_L), len(found_L)))
            raise SubjectError(
                f"text {index}: '{first.name}' and '{other.name}' read other tokens from position {at} on; sources must share "
                "tokenizer and template"
            )


def read(sources: Sequence[LanguageSubject], batches: Sequence[Batch], layer: int) -> list[torch.Tensor]:
    """The residual stream after block ``layer`` at the kept tokens of all batches, N x d float32 on the CPU, of each source.

    Local sources of one base are read together: up to the first block that an adapter touches the base's blocks are computed
    once, and a source whose adapter begins above ``layer`` is the base itself there.
    """
    found: list[torch.Tensor | None] = [None] * len(sources)
    groups: dict[int, list[int]] = {}
    gc.freeze()  # a trace is a cycle that keeps its tensors: what is made from here on is collected, without looking at the rest
    try:
        for i, source in enumerate(sources):
            if isinstance(source, SharedSubject):
                groups.setdefault(id(module(source)), []).append(i)
            else:
                found[i] = torch.cat(list(source.layer_rows(batches, layer)))
        for members in groups.values():
            for i, rows_Nd in zip(members, _together([sources[i] for i in members], batches, layer), strict=True):
                found[i] = rows_Nd
    finally:
        gc.collect()
        gc.unfreeze()
    return [rows_Nd for rows_Nd in found if rows_Nd is not None]


@lru_cache(maxsize=64)
def first_block(adapter: str | None) -> int | None:
    """The lowest block an adapter changes, 0 where it changes what is below the blocks, None where there is no adapter."""
    if adapter is None:
        return None
    with safe_open(Path(adapters.local(adapter)) / adapters.WEIGHTS, framework="numpy") as file:
        places = [re.search(r"\.layers\.(\d+)\.", name) for name in file.keys()]  # noqa: SIM118 - safe_open is no mapping
    return min((int(place[1]) if place else 0 for place in places), default=0)


def _together(sources: Sequence[Any], batches: Sequence[Batch], layer: int) -> list[torch.Tensor]:
    """Rows of sources that share a base's weights in memory."""
    model = module(sources[0])
    firsts = [first_block(source.adapter) for source in sources]
    starts = [layer + 1 if first is None else min(first, layer + 1) for first in firsts]
    blocks = sorted({start - 1 for start in starts if start}) if len(sources) > 1 else []
    for source in sources:
        source.tokens_read += sum(ids_BL.numel() for ids_BL, *_ in batches)
    hidden: list[dict[int, Any]] = [{} for _ in batches]
    if blocks:
        attach(model, None, sources[0].name)
        hidden = [dict(zip(blocks, _below(model, batch, blocks), strict=True)) for batch in batches]
    rows: dict[str | None, torch.Tensor] = {}
    for source, start in zip(sources, starts, strict=True):
        if source.adapter in rows:
            continue
        if blocks and start == layer + 1:
            parts = [_kept(outputs[layer], batch[2]) for outputs, batch in zip(hidden, batches, strict=True)]
        else:
            attach(model, source.adapter, source.name)
            start = start if blocks else 0
            parts = [_above(model, batch, outputs.get(start - 1), start, layer) for outputs, batch in zip(hidden, batches)]
        rows[source.adapter] = torch.cat(parts)
    return [rows[source.adapter] for source in sources]


def _below(model: Any, batch: Batch, blocks: Sequence[int]) -> list[Any]:
    """What each of some ascending blocks puts out, B x L x d; the forward ends at the last."""
    device = model.lm_head.weight.device
    inputs = {"input_ids": batch[0].to(device), "attention_mask": batch[1].to(device)}
    with torch.inference_mode(), model.trace(inputs, use_cache=False) as tracer:
        found = save([model.model.layers[block].output for block in blocks])
        tracer.stop()
    return list(found)


def _above(model: Any, batch: Batch, output: Any, start: int, layer: int) -> torch.Tensor:
    """Kept rows after block ``layer`` where the blocks below ``start`` are not run: the last of them puts out ``output``."""
    device = model.lm_head.weight.device
    inputs = {"input_ids": batch[0].to(device), "attention_mask": batch[1].to(device)}
    keep_BL = batch[2].to(device)
    with torch.inference_mode(), model.trace(inputs, use_cache=False) as tracer:
        for block in range(start):
            model.model.layers[block].skip(output)
        found = model.model.layers[layer].output
        hidden_BLd = found[0] if isinstance(found, tuple) else found
        rows_Nd = hidden_BLd[keep_BL].float().cpu().save()
        tracer.stop()
    return rows_Nd


def _kept(output: Any, keep_BL: torch.Tensor) -> torch.Tensor:
    hidden_BLd = output[0] if isinstance(output, tuple) else output
    return hidden_BLd[keep_BL.to(hidden_BLd.device)].float().cpu()
