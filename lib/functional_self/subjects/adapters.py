"""LoRA adapters: where they are, whether they fit by their own word, and how they get to a hub."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from safetensors import SafetensorError, safe_open

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
    if carded(adapter):
        raise SubjectError(
            f"organism '{adapter}' does not ship and is not trained here; run: functional-self organisms train {adapter}"
        )
    raise SubjectError(
        f"adapter '{adapter}' is unknown; use an organism's name, a directory with {CONFIG}, or OWNER/NAME on the hub"
    )


def carded(adapter: str) -> str | None:
    """The digest that the card of an organism that does not ship gives for its adapter; None where there is no such card."""
    if not re.fullmatch(r"[\w-]+", adapter) or (paths.root() / "organisms" / "adapters" / adapter).is_dir():
        return None
    try:
        card = json.loads((paths.root() / "organisms" / "cards" / f"{adapter}.json").read_text(encoding="utf-8"))
        return str(card["adapter"])
    except (OSError, ValueError, KeyError):
        return None


def local(adapter: str) -> str:
    """A directory with a located adapter; of one on the hub its configuration and safetensors are fetched and nothing else."""
    if Path(adapter).is_absolute():
        return frozen(Path(adapter))
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
    """Raise SubjectError where an adapter's weights here are not whole, or it says that it was trained on another base."""
    if not Path(adapter).is_absolute():
        return  # its configuration is read with it
    try:
        config = json.loads((Path(adapter) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SubjectError(f"subject '{name}': {adapter}/{CONFIG} cannot be read: {error}") from error
    try:
        with safe_open(Path(adapter) / WEIGHTS, framework="numpy") as file:
            whole = bool(list(file.keys()))
    except (OSError, SafetensorError):
        whole = False
    if not whole:
        raise SubjectError(f"subject '{name}': {adapter}/{WEIGHTS} is truncated or no safetensors file; fetch or train it again")
    trained = str(config.get("base_model_name_or_path") or "")
    if trained and _short(trained) not in {_short(base) for base in bases}:
        raise SubjectError(f"subject '{name}': the adapter was trained on {trained}; name that base before the '+'")


def remote(name: str, adapter: str, host: str) -> str:
    """What an NDIF host calls an adapter: a path where the host is this machine, else a repository on the hub."""
    if not Path(adapter).is_absolute():
        return adapter
    if urlsplit(host).hostname not in LOOPBACK:
        raise SubjectError(
            f"subject '{name}': {host} cannot read the adapter in {adapter}; "
            "'functional-self push ADAPTER --to OWNER/NAME' puts it on the hub, then name OWNER/NAME after the '+'"
        )
    return frozen(Path(adapter))


def frozen(home: Path) -> str:
    """A copy of an adapter named after its content: whoever keeps what it has loaded by its path never keeps an old one."""
    copy = paths.cache() / "adapters" / digest(home)
    if not copy.is_dir():
        with paths.staging(copy.parent) as scratch:
            (scratch / "whole").mkdir()
            for file in (CONFIG, WEIGHTS):
                shutil.copyfile(home / file, scratch / "whole" / file)
            with contextlib.suppress(OSError):  # another process may have been faster
                (scratch / "whole").rename(copy)
    return str(copy)


def digest(home: Path) -> str:
    """What identifies an adapter's two files."""
    return paths.digest("".join(paths.sha256(home / file) for file in (CONFIG, WEIGHTS)))


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
