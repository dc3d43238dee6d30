"""Checkpoints of a training: one file, whole or not there, named after its step and its checksum."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from functional_self import paths
from functional_self.crosscoder.model import Crosscoder
from functional_self.errors import CrosscoderError

NAME = re.compile(r"step-(\d{8})-([0-9a-f]{64})\.safetensors")
MOMENTS = ("exp_avg", "exp_avg_sq")
DONE = "done"


@dataclass
class Run:
    """A training under way: rows since each latent was active, and loss, l0 and dead latents of every step."""

    crosscoder: Crosscoder
    optimiser: torch.optim.Adam
    quiet_F: torch.Tensor
    history: list[tuple[float, float, int]]


def keep(folder: Path, run: Run, place: tuple[int, int]) -> Path:
    """Write weights, both moments, history and the place in the data (pass, batch); the checkpoint before goes afterwards."""
    tensors = {f"value:{name}": value for name, value in run.crosscoder.state_dict().items()}
    for name, p in run.crosscoder.named_parameters():
        for moment in MOMENTS:
            tensors[f"{moment}:{name}"] = run.optimiser.state[p][moment]
    tensors["quiet"] = run.quiet_F
    said = {"history": json.dumps(run.history), "place": json.dumps(place)}
    with paths.staging(folder) as scratch:
        aside = scratch / "state.safetensors"
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, aside, metadata=said)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        whole = folder / f"step-{len(run.history):08d}-{paths.sha256(aside)}.safetensors"
        aside.rename(whole)
    for other in _all(folder):
        if other != whole:
            other.unlink(missing_ok=True)
    return whole


def resume(folder: Path, run: Run) -> tuple[int, int]:
    """Put a run where its last checkpoint left it; the place in the data, (0, 0) where nothing is kept.

    Raises CrosscoderError naming a checkpoint whose bytes are not those that were written.
    """
    found = _all(folder)
    if not found:
        return 0, 0
    path = found[-1]
    try:
        if paths.sha256(path) != path.name.split("-")[2].removesuffix(".safetensors"):
            raise ValueError("its bytes are not those that were written (checksum)")
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        run.history[:] = [(float(loss), float(l0), int(dead)) for loss, l0, dead in json.loads(said["history"])]
        epoch, at = json.loads(said["place"])
        run.crosscoder.load_state_dict({n[6:]: t for n, t in tensors.items() if n.startswith("value:")})
        run.quiet_F.copy_(tensors["quiet"])
        for name, p in run.crosscoder.named_parameters():
            run.optimiser.state[p] = {moment: tensors[f"{moment}:{name}"].to(p.device) for moment in MOMENTS}
            run.optimiser.state[p]["step"] = torch.tensor(float(len(run.history)), device=p.device)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CrosscoderError(f"{paths.shown(path)}: {' '.join(str(error).split())[:160]}; delete it to begin anew") from error
    return int(epoch), int(at)


def finish(folder: Path, crosscoder: Crosscoder, history: pd.DataFrame) -> None:
    """Keep the trained crosscoder and its history in place of the checkpoints."""
    told = json.dumps(history.to_numpy().tolist())
    paths.write_text(folder / "history.json", json.dumps({"history": told, "check": paths.digest(told)}))
    crosscoder.save(folder / DONE)
    for path in _all(folder):
        path.unlink(missing_ok=True)


def finished(folder: Path) -> tuple[Crosscoder, pd.DataFrame] | None:
    """What ``finish`` kept, or nothing; raises CrosscoderError where it is damaged."""
    if not (folder / DONE).is_dir():
        return None
    path = folder / "history.json"
    try:
        said = json.loads(path.read_text())
        if said["check"] != paths.digest(said["history"]):
            raise ValueError("its bytes are not those that were written (checksum)")
        history = pd.DataFrame(json.loads(said["history"]), columns=["loss", "l0", "dead"])
    except (OSError, ValueError, KeyError) as error:
        raise CrosscoderError(f"{paths.shown(path)}: {error}; delete its folder to begin anew") from error
    return Crosscoder.load(folder / DONE), history


def _all(folder: Path) -> list[Path]:
    """Checkpoints, the earliest first."""
    return sorted(path for path in folder.glob("step-*") if NAME.fullmatch(path.name)) if folder.is_dir() else []
