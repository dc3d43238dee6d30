"""What a file of items holds, and how far its classes can be trusted: counts, agreement, a lexical baseline."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from functional_self import materials
from functional_self.materials.schema import Item, LabelFile, Specification, StoryFile, jaccard

CLASSES = ("covered", "conflict", "silent")
MIN_ALPHA = 0.67
READERS: dict[str, Callable[[str], Any]] = {
    "specifications": materials.specification,
    "items": materials.items,
    "labels": materials.labels,
    "contexts": materials.contexts,
    "personas": materials.personas,
    "wordings": materials.wordings,
    "drift": materials.drift,
    "stories": materials.stories,
}
"""Every kind of material and its reader."""


def counts(items: Sequence[Item]) -> dict[str, Any]:
    """Items per class, families, domains, wordings, enacted forms, keys, and the largest share of words two wordings have."""
    families = collections.Counter(item.family for item in items)
    shared = [
        jaccard(" ".join((a.ask, a.plus, a.minus)), " ".join((b.ask, b.plus, b.minus)))
        for item in items
        for a, b in itertools.combinations(item.paraphrases, 2)
    ]
    return {
        "items": len(items),
        "classes": dict(collections.Counter(item.item_class for item in items)),
        "families": len(families),
        "largest family": max(families.values()),
        "domains": len({item.domain for item in items}),
        "wordings": min(len(item.paraphrases) for item in items),
        "with enacted forms": sum(bool(item.enacted) for item in items),
        "entailed": dict(collections.Counter(item.entailed for item in items if item.entailed)),
        "largest shared words": round(max(shared, default=0.0), 3),
    }


def agreement(items: Sequence[Item], labels: LabelFile) -> dict[str, Any]:
    """Krippendorff's nominal alpha = 1 - D_o / D_e of the two labellings, and the items they disagree on.

    Source: Krippendorff (2019), Content Analysis, chapter 12; computed by the package ``krippendorff``.
    """
    import krippendorff

    own = [CLASSES.index(item.item_class) for item in items]
    other = [CLASSES.index(labels.labels[item.id]) for item in items]
    return {
        "alpha": float(krippendorff.alpha(reliability_data=[own, other], level_of_measurement="nominal")),
        "agree": dict(collections.Counter(i.item_class for i, a, b in zip(items, own, other, strict=True) if a == b)),
        "disagree": [i.id for i, a, b in zip(items, own, other, strict=True) if a != b],
    }


def lexical_auroc(items: Sequence[Item], specification: Specification) -> dict[str, float]:
    """How well shared words alone tell each class from the silent items: an AUROC of one half means not at all.

    An item's score is its largest overlap with a clause: the share of the clause's words of more than three letters that
    stand in the item's wordings. AUROC = P(score of the class > score of a silent item) + P(equal) / 2.
    """
    from scipy import stats

    def words(text: str) -> set[str]:
        return {word for word in re.findall(r"[a-z']+", text.lower()) if len(word) > 3}

    clauses = [found for clause in specification.clauses if (found := words(clause.text))]
    scores: dict[str, list[float]] = collections.defaultdict(list)
    for item in items:
        said = words(" ".join(text for p in item.paraphrases for text in (p.ask, p.plus, p.minus)))
        scores[item.item_class].append(max(len(said & clause) / len(clause) for clause in clauses))
    return {
        item_class: float(stats.mannwhitneyu(scores[item_class], scores["silent"]).statistic)
        / (len(scores[item_class]) * len(scores["silent"]))
        for item_class in CLASSES[:2]
        if scores[item_class] and scores["silent"]
    }


def report(kind: str, name: str, labelling: str | None = None) -> dict[str, Any]:
    """What a valid material file holds; for items also the lexical baseline and the agreement of two labellings.

    The second labelling is the one named, else the shipped one of the same name. Raises MaterialError.
    """
    read = READERS[kind](name)
    if kind != "items":
        return _size(read)
    file = materials.item_file(name)
    found = counts(file.items)
    classified = [item for item in file.items if item.item_class in CLASSES]
    if not classified:
        return found
    found["lexical AUROC against silent"] = lexical_auroc(classified, materials.specification(file.specification))
    if labelling is None and (materials.DATA / "labels" / f"{name}.yml").is_file():
        labelling = name
    if labelling is not None:
        found["agreement"] = agreement(classified, materials.labels(labelling))
    return found


def _size(read: Any) -> dict[str, Any]:
    if isinstance(read, Specification):
        entailed = collections.Counter(pole for clause in read.clauses for pole in clause.entails.values())
        return {"clauses": len(read.clauses), "words": len(read.text.split()), "entailed": dict(entailed)}
    if isinstance(read, LabelFile):
        return {"labels": len(read.labels), "labeller": read.labeller}
    if isinstance(read, StoryFile):
        return {name: len(getattr(read, name)) for name in StoryFile.model_fields}
    return {"entries": len(read), "ids": [entry.id for entry in read]}


def kind_of(name: str) -> str:
    """The kind of material a file or a shipped name is: by its folder, else by its top-level keys, else items."""
    path = Path(name)
    if not name.endswith((".yml", ".yaml")):
        return "items"
    if path.parent.name in READERS:
        return path.parent.name
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    keys = set(re.findall(r"^([a-z_]+)\s*:", text, flags=re.MULTILINE))
    for key, kind in (("labels", "labels"), ("scripts", "drift"), ("openings", "stories"), ("clauses", "specifications")):
        if key in keys:
            return kind
    return next((kind for kind in ("contexts", "personas", "wordings") if kind in keys and "items" not in keys), "items")


def shipped() -> list[tuple[str, str]]:
    """Kind and name of every shipped file."""
    return [(kind, path.stem) for kind in READERS for path in sorted((materials.DATA / kind).glob("*.yml"))]
