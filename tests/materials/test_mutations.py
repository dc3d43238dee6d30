"""Three hundred broken material files: each is refused in one line that names file and key, none is accepted, none tracebacks."""

from __future__ import annotations

import copy
import random

import pytest
import yaml
from functional_self import materials
from functional_self.errors import MaterialError
from functional_self.materials.check import READERS, shipped

KINDS = [(kind, name) for kind, name in shipped() if name != "known"]
TRICKS = {
    "zero-width space": "plain\u200btext here",
    "right-to-left override": "plain \u202etext here",
    "byte order mark": "\ufeffplain text here",
    "decomposed accent": "a cafe\u0301 in town",
    "cyrillic letter": "p\u0430per and ink",
    "bell": "plain\x07text",
    "private use": "plain \ue000 text",
    "line separator": "plain\u2028text",
    "greek letter": "an \u03bfpen door",
}
VALUES = (None, 5, 3.5, True, [], {}, ["x"], {"a": "b"}, "", " ", "x" * 100_000, b"raw".hex() * 0 or [[]])


def leaves(node, path=()):
    """Paths to every value below the top, containers included."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield (*path, key)
            yield from leaves(value, (*path, key))


def put(raw, path, value):
    for step in path[:-1]:
        raw = raw[step]
    raw[path[-1]] = value


def get(raw, path):
    for step in path:
        raw = raw[step]
    return raw


def small(kind: str, name: str):
    """A shipped file cut down to a few entries that still validate."""
    raw = yaml.load(materials.find(kind, name).read_text(), Loader=yaml.CSafeLoader)
    if kind == "items":
        raw["items"] = [*raw["items"][:2], *[i for i in raw["items"][2:] if i["class"] == "covered"][:1]]
    if kind == "specifications":
        raw["items"] = str(materials.find("items", raw["items"]))
        for clause in raw["clauses"]:
            clause["entails"] = dict(list(clause.get("entails", {}).items())[:1])
    return raw


def mutations(rng: random.Random):
    """Kind, what was done, the text of the file, and the key that the message must name (None: only the file)."""
    sources = {(kind, name): small(kind, name) for kind, name in KINDS}
    choices = list(sources)
    while True:
        kind, name = rng.choice(choices)
        raw = copy.deepcopy(sources[kind, name])
        paths = [p for p in leaves(raw) if isinstance(p[-1], str)]
        path = rng.choice(paths)
        old, key = get(raw, path), str(path[-1])
        what = rng.choice(["type", "drop", "unknown", "unicode", "huge", "anchor", "tag", "repeat", "reference", "name"])
        dump = lambda data: yaml.safe_dump(data, sort_keys=False, allow_unicode=True)  # noqa: E731
        if what == "type":
            value = rng.choice(VALUES)
            optional = key in ("clauses", "enacted", "turns", "entails", "forbid", "codes") and value in ([], {})
            if value == old or optional or (key in ("entailed", "system") and value is None):
                continue
            put(raw, path, value)
        elif what == "drop":
            if key in ("clauses", "turns", "enacted", "forbid", "entails") or (key == "system" and kind == "personas"):
                continue
            del get(raw, path[:-1])[path[-1]]
            if "entails" in path:
                continue
        elif what == "unknown":
            if not isinstance(get(raw, path[:-1]), dict):
                continue
            get(raw, path[:-1])["colour"] = "red" if "entails" not in path else "plus"
            key = "colour"
        elif what == "unicode":
            if not isinstance(old, str):
                continue
            put(raw, path, rng.choice(list(TRICKS.values())))
        elif what == "huge":
            if not isinstance(old, str):
                continue
            put(raw, path, "word " * 2000)
        elif what == "reference":
            if key not in ("specification", "items", "clauses", "class", "entailed") or (key == "clauses" and not old):
                continue
            put(raw, path, ["nowhere"] if key == "clauses" else "nowhere")
        elif what == "name":
            if key != "id":
                continue
            put(raw, path, rng.choice(["Upper", "with space", "../up", "", "a" * 80, "umläut", "trail\n"]))
        text = dump(raw)
        if what == "anchor":
            first = next(iter(raw))
            text = text.replace(f"{first}:", f"{first}: &x", 1) + "again: *x\n"
            key = None
        elif what == "tag":
            if not isinstance(old, str) or f"{key}: " not in text:
                continue
            text = text.replace(f"{key}: ", f"{key}: {rng.choice(['!!python/name:os.system', '!local', '!!binary'])} ", 1)
            key = None
        elif what == "repeat":
            lines = text.splitlines()
            at = next(i for i, line in enumerate(lines) if line.lstrip(" -").startswith(f"{key}:"))
            indent = len(lines[at]) - len(lines[at].lstrip(" -"))
            text = "\n".join([*lines[: at + 1], " " * indent + f"{key}: again", *lines[at + 1 :]])
            key = None
        yield kind, f"{what} at {'/'.join(map(str, path))}", text, key


def cases(count: int = 300):
    rng = random.Random(20261124)
    source = mutations(rng)
    return [next(source) for _ in range(count)]


@pytest.mark.parametrize("part", range(10))
def test_three_hundred_mutations_are_refused_in_one_line(tmp_path, part):
    for number, (kind, what, text, key) in enumerate(cases()[part::10]):
        path = tmp_path / f"mutated-{number}.yml"
        path.write_text(text, encoding="utf-8")
        try:
            READERS[kind](str(path))
        except MaterialError as error:
            message = str(error)
        else:
            pytest.fail(f"accepted silently: {kind}, {what}\n{text[:600]}")
        assert path.name in message and "\n" not in message and len(message) < 700, (what, message)
        assert key is None or key in message, (kind, what, message)


def test_the_sources_of_the_mutations_are_valid(tmp_path):
    for kind, name in KINDS:
        path = tmp_path / f"{name}.yml"
        path.write_text(yaml.safe_dump(small(kind, name), sort_keys=False, allow_unicode=True), encoding="utf-8")
        assert READERS[kind](str(path))


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 5000, "---\na: 1\n---\nb: 2\n", "items: !!python/object:os.system {}", "? [a, b]\n: c\n", "\udcff"]
)
def test_structures_nobody_expects(tmp_path, text):
    path = tmp_path / "odd.yml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MaterialError, match=r"odd\.yml"):
        materials.items(str(path))
