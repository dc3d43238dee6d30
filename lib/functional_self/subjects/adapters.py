"""LoRA adapters: where they are, whether they fit by their own word, and how they get to a hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from functional_self import paths
from functional_self.errors import SubjectError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def locate(adapter: str) -> str:
    """Where an adapter is: an organism's directory by its name, another directory, or ``OWNER/NAME`` on the hub.

    Raises SubjectError where it is nowhere, or holds no safetensors: pickled weights are not loaded.
    """
    for home in (paths.root() / "organisms" / "adapters", paths.cache() / "organisms"):
        if re.fullmatch(r"[\w.-]+", adapter) and (home / adapter / CONFIG).is_file():
            return str((home / adapter).resolve())
    path = Path(adapter).expanduser()
    if (path / CONFIG).is_file():
        if not (path / WEIGHTS).is_file():
            raise SubjectError(f"adapter '{adapter}': {path} holds no {WEIGHTS} (pickled weights are not loaded)")
        return str(path.resolve())
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", adapter) and not path.exists():
        return adapter
    raise SubjectError(
        f"adapter '{adapter}' is unknown; use an organism's name, a directory with {CONFIG}, or OWNER/NAME on the hub"
    )


def local(adapter: str) -> str:
    """The directory of a located adapter; one on the hub is fetched, its configuration and safetensors and nothing else."""
    if Path(adapter).is_absolute():
        return adapter
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        home = Path(snapshot_download(adapter, allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        said = " ".join(str(error).split())[:160]
        raise SubjectError(f"adapter '{adapter}': is no directory here and the hub does not give it: {said}") from error
    if not (home / WEIGHTS).is_file():
        raise SubjectError(f"adapter '{adapter}': the repository holds no {WEIGHTS} (pickled weights are not loaded)")
    return str(home)


def check(name: str, adapter: str, bases: set[str]) -> None:
    """Raise SubjectError where an adapter here says that it was trained on another base than one of these names."""
    if not Path(adapter).is_absolute():
        return  # its configuration is read with it
    try:
        config = json.loads((Path(adapter) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SubjectError(f"subject '{name}': {adapter}/{CONFIG} cannot be read: {error}") from error
    trained = str(config.get("base_model_name_or_path") or "")
    if trained and _short(trained) not in {_short(base) for base in bases}:
        raise SubjectError(f"subject '{name}': the adapter was trained on {trained}; name that base before the '+'")


def remote(name: str, adapter: str, host: str) -> str:
    """What an NDIF host calls an adapter: a path where the host is this machine, else a repository on the hub."""
    if Path(adapter).is_absolute() and urlsplit(host).hostname not in LOOPBACK:
        raise SubjectError(
            f"subject '{name}': {host} cannot read the adapter in {adapter}; "
            "'functional-self push ADAPTER --to OWNER/NAME' puts it on the hub, then name OWNER/NAME after the '+'"
        )
    return adapter


def push(adapter: str, repository: str, private: bool = False) -> str:
    """Put an adapter's configuration, weights and card on the hub and return its address; a hub token is needed."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    home = Path(locate(adapter))
    if not home.is_absolute():
        raise SubjectError(f"adapter '{adapter}' is on the hub already")
    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        kept = [CONFIG, WEIGHTS, "card.json", "README.md"]
        return str(api.upload_folder(repo_id=repository, folder_path=home, allow_patterns=kept))
    except (HfHubHTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise SubjectError(f"adapter '{adapter}': not pushed to {repository}: {said}; 'hf auth login' sets a token") from error


def _short(base: str) -> str:
    return base.rstrip("/").rsplit("/", 1)[-1].lower()
