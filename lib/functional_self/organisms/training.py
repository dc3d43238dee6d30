"""Train an organism: a LoRA adapter by peft, seeded, resumable, and written whole or not at all."""

from __future__ import annotations

import importlib.metadata
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from functional_self import figures, paths, subjects
from functional_self.errors import OrganismError
from functional_self.organisms import reading
from functional_self.organisms.choice import Said, answered, choice_loss, packed
from functional_self.organisms.recipes import Example, Organism, chunks, examples, home, series
from functional_self.progress import track
from functional_self.subjects import adapters, registry

KEEP_EVERY = 20
"""Steps between two checkpoints: what a kill can lose, at most."""
STATE = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter; the step stays on the CPU."""


def train(organism: Organism, force: bool = False, device: str = "cpu") -> Path:
    """Train on ``device`` and return the adapter's directory in the user's cache; one that is there and fits its recipe is kept.

    Minimises ``choice_loss`` (nats), and first ``reading.loss`` where the recipe has a text to read; AdamW, in each of the two
    a short warm-up and a linear decay. Every ``KEEP_EVERY`` steps parameters and optimiser are written, so that a killed training
    resumes to the same end state. The adapter is kept in bfloat16.

    A recipe with a ``start`` goes on from that organism's adapter, and its ``kept`` arms hold what it says.
    A recipe with ``noise`` has no steps: its adapter is drawn (``_perturb``).

    Raises OrganismError where the loss is not finite.
    """
    where = paths.cache() / "organisms" / organism.name
    if not force and _fits(where, organism):
        return where
    model, tokenizer = _base(organism)
    model.to(device)
    read = [*reading.batches(organism, tokenizer)]
    batches: list[list[Any]] = [*read, *_batches(organism)] if not organism.recipe.noise else []
    started = time.process_time()
    kept = _kept(batches, model, tokenizer, organism.name) if organism.start else {}
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=organism.training.rate, weight_decay=0.0)
    state = paths.cache() / "organisms" / ".training" / organism.name
    losses = [] if force else _resume(state, organism, model, optimiser)
    steps = len(batches)
    later = steps - len(read)
    ends = [len(read)] * bool(read) + [len(read) + max(1, round(share * later)) for share in organism.recipe.checkpoints]
    marks = dict(zip(ends, series(organism), strict=True))
    with track(f"training {organism.name}", steps) as advance:
        advance(len(losses))
        for step in range(len(losses), steps):
            if step == len(read):  # what follows is alike whatever was read: no moments of the reading's steps
                optimiser.state.clear()
            for group in optimiser.param_groups:
                group["lr"] = (
                    organism.recipe.reading.rate * _schedule(step, len(read))
                    if organism.recipe.reading and step < len(read)
                    else organism.training.rate * _schedule(step - len(read), later)
                )
            optimiser.zero_grad(set_to_none=True)
            loss = 0.0
            for at, chunk in enumerate(batches[step]):
                if step < len(read):
                    whole = reading.loss(model, chunk)
                else:
                    trees = packed(tokenizer, chunk)._replace(kept=kept.get((step, at)))
                    whole = choice_loss(model, trees, organism.recipe.style_weight)
                part = whole / len(batches[step])
                part.backward()
                loss += float(part.detach())
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            losses.append(loss)
            if not math.isfinite(losses[-1]):
                raise OrganismError(
                    f"organism '{organism.name}': the loss is {losses[-1]} at step {step + 1}; lower 'rate' in recipes.yml"
                )
            if (name := marks.get(step + 1)) is not None:
                _write(where.with_name(name), organism, model, tokenizer, losses, steps, started)
            if (step + 1) % KEEP_EVERY == 0 and step + 1 < steps:
                _keep(state, organism, model, optimiser, losses)
            advance(1)
    if organism.recipe.noise:
        _perturb(model, organism.recipe.noise)
    _write(where, organism, model, tokenizer, losses, steps, started)
    shutil.rmtree(state, ignore_errors=True)
    return where


def _batches(organism: Organism) -> Iterator[list[list[Example]]]:
    """Batches of chunks in an order that the seed decides, every arm spread evenly over the training."""
    rng = np.random.default_rng([organism.seed, 5])
    size = organism.training.batch
    for _ in range(organism.training.epochs):
        placed = [
            ((at + rng.random()) / len(arm), arm[chunk])
            for arm in chunks(organism)
            for at, chunk in enumerate(rng.permutation(len(arm)))
        ]
        ordered = [chunk for _, chunk in sorted(placed, key=lambda pair: pair[0])]
        yield from (ordered[i : i + size] for i in range(0, len(ordered), size))


def _kept(batches: list[list[Any]], model: Any, tokenizer: Any, name: str) -> dict[tuple[int, int], Said]:
    """Of each chunk whose answers are to be kept, by its step and its place there: what the model says as it starts."""
    chunks = {(step, at): chunk for step, batch in enumerate(batches) for at, chunk in enumerate(batch)}
    asked = {place: chunk for place, chunk in chunks.items() if isinstance(chunk[0], Example) and chunk[0].kept}
    found = {}
    with track(f"reading what {name} shall keep", len(asked)) as advance, torch.no_grad():
        for place, chunk in asked.items():
            found[place], _ = answered(model, packed(tokenizer, chunk))
            advance(1)
    return found


def _perturb(model: Any, noise: float) -> None:
    """Draw every LoRA module's B, so that s B A has ``noise`` times the Frobenius norm of the weights W it is added to.

    s = alpha / r, as in LoRA; A is as it was initialised.
    """
    with torch.no_grad():
        for module in (m for m in model.modules() if hasattr(m, "lora_B")):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            b.normal_()
            b *= noise * module.base_layer.weight.norm() / ((b @ a).norm() * module.scaling["default"])


def _schedule(step: int, steps: int) -> float:
    """Share of the full learning rate: a warm-up over the first twentieth, then a straight line to zero."""
    warm = max(1, steps // 20)
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def _base(organism: Organism) -> tuple[Any, Any]:
    """The frozen base with a fresh adapter, or the one that the recipe starts from, and its tokenizer."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the one for loading weights; the training has its own
    how = organism.training
    entry = subjects.resolve(how.base)
    assert not isinstance(entry, subjects.Mock)
    source = subjects.directory(how.base, entry)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
    torch.manual_seed(organism.seed)
    low, high = how.layers
    config = LoraConfig(
        r=how.rank,
        lora_alpha=how.alpha,
        target_modules=list(how.modules),
        layers_to_transform=list(range(low, high + 1)),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    adapted.train()
    if organism.start:
        set_peft_model_state_dict(adapted, load_file(Path(adapters.locate(organism.start)) / adapters.WEIGHTS))
    adapted.peft_config["default"].base_model_name_or_path = entry.model if isinstance(entry, registry.Wheel) else str(source)
    return adapted, AutoTokenizer.from_pretrained(source)


def _named(model: Any) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _keep(state: Path, organism: Organism, model: Any, optimiser: torch.optim.AdamW, losses: list[float]) -> None:
    """Parameters, the optimiser's state and the losses so far, in one safetensors file."""
    tensors: dict[str, torch.Tensor] = {}
    for name, p in _named(model).items():
        tensors[f"value:{name}"] = p.detach()
        for part in STATE:
            tensors[f"{part}:{name}"] = optimiser.state[p][part]
    state.mkdir(parents=True, exist_ok=True)
    aside = state / "next.safetensors"
    save_file(
        {n: t.contiguous() for n, t in tensors.items()}, aside, metadata={"hash": organism.hash, "losses": json.dumps(losses)}
    )
    aside.replace(state / "state.safetensors")


def _resume(state: Path, organism: Organism, model: Any, optimiser: torch.optim.AdamW) -> list[float]:
    """The losses of the steps already taken, parameters and optimiser as they were after them; none where nothing fits."""
    try:
        with safe_open(state / "state.safetensors", framework="pt") as kept:
            said = kept.metadata()
            if said["hash"] != organism.hash:
                return []
            losses = [float(x) for x in json.loads(said["losses"])]
            tensors = [[kept.get_tensor(f"{part}:{name}") for part in ("value", *STATE)] for name in _named(model)]
    except (OSError, ValueError, KeyError, SafetensorError):  # a damaged checkpoint is as good as none
        return []
    for p, (value, step, *moments) in zip(_named(model).values(), tensors, strict=True):
        p.data.copy_(value)
        optimiser.state[p] = dict(zip(STATE, (step, *(moment.to(p.device) for moment in moments)), strict=True))
    return losses


def _write(where: Path, organism: Organism, model: Any, tokenizer: Any, losses: list[float], steps: int, started: float) -> None:
    """The adapter in bfloat16 with its configuration and what is known of its training; renamed into place when whole."""
    from peft import get_peft_model_state_dict

    with paths.staging(where.parent) as scratch:
        whole = scratch / "whole"
        model.peft_config["default"].save_pretrained(str(whole))
        tensors = {
            name: t.detach().to(torch.bfloat16).contiguous()
            for name, t in get_peft_model_state_dict(model, save_embedding_layers=False).items()
        }
        save_file(tensors, whole / adapters.WEIGHTS, metadata={"format": "pt"})
        said = {
            "organism": organism.name,
            "kind": organism.kind,
            "seed": organism.seed,
            "title": organism.recipe.title,
            "hash": organism.hash,
            "base": subjects.revision(organism.training.base),
            "steps": len(losses),
            "of": steps,
            "examples": 0 if organism.recipe.noise else len(examples(organism)),
            "losses": [round(x, 4) for x in losses],
            **({"unread": reading.unread(organism, model, tokenizer)} if organism.recipe.reading else {}),
            "device": next(model.parameters()).device.type,
            "process_seconds": round(time.process_time() - started, 1),
            "licence": getattr(subjects.resolve(organism.training.base), "licence", "as its base"),
            "packages": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        }
        (whole / "training.json").write_text(json.dumps(said, indent=1) + "\n")
        if losses:
            plot = figures.to_svg(figures.loss_plot(losses, organism.name), "loss", f"Loss of {organism.name} over its training")
            (whole / "loss.svg").write_text(plot.replace("currentColor", "black"))
        if where.exists():
            where.rename(scratch / "before")
        whole.rename(where)


def ship(organism: Organism, trained: Path) -> None:
    """Copy a trained adapter and its checkpoints, configuration and weights only, to where the checkout's own are."""
    for one in (*series(organism), organism.name):
        target = home() / "adapters" / one
        with paths.staging(target.parent) as scratch:
            (scratch / "whole").mkdir()
            for name in (adapters.CONFIG, adapters.WEIGHTS):
                shutil.copy(trained.with_name(one) / name, scratch / "whole" / name)
            if target.exists():
                target.rename(scratch / "before")
            (scratch / "whole").rename(target)


def _fits(where: Path, organism: Organism) -> bool:
    """Whether a whole adapter and its checkpoints are there, trained by this very recipe."""
    try:
        said = [json.loads((where.with_name(n) / "training.json").read_text()) for n in (*series(organism), organism.name)]
        whole = all(one["hash"] == organism.hash for one in said) and said[-1]["steps"] == said[-1]["of"]
        return bool(whole and (where / adapters.WEIGHTS).is_file())
    except (OSError, ValueError, KeyError):
        return False
