"""What a file of items holds, and how far its classes can be trusted: counts, agreement, a lexical baseline."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from functional_self import materials
from functional_self.materials.schema import Item, LabelFile, Specification, jaccard

CLASSES = ("covered", "conflict", "silent")
MIN_ALPHA = 0.67
READERS: dict[str, Callable[[str], object]] = {
    "specifications": materials.specification,
    "items": materials.items,
    "labels": materials.labels,
    "contexts": materials.contexts,
    "personas": materials.personas,
    "wordings": materials.wordings,
    "drift": materials.drift,
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


def report(name: str, labelling: str | None = None) -> dict[str, Any]:
    """Counts of an item file, its lexical baseline, and the agreement with a second labelling where there is one."""
    file = materials.item_file(name)
    found = counts(file.items)
    classified = [item for item in file.items if item.item_class in CLASSES]
    found["lexical AUROC"] = lexical_auroc(classified, materials.specification(file.specification))
    if labelling is None and not name.endswith((".yml", ".yaml")) and (materials.DATA / "labels" / f"{name}.yml").is_file():
        labelling = name
    if labelling is not None and classified:
        found["agreement"] = agreement(classified, materials.labels(labelling))
    return found


def kind_of(path: Path) -> str:
    """The kind of material a file holds, from its top-level keys; items where nothing else fits."""
    text = path.read_text(encoding="utf-8", errors="replace")
    keys = set(re.findall(r"^([a-z_]+):", text, flags=re.MULTILINE))
    marks = (("labels", "labels"), ("contexts", "contexts"), ("personas", "personas"), ("wordings", "wordings"))
    for key, kind in (*marks, ("scripts", "drift"), ("clauses", "specifications")):
        if key in keys and "items" not in keys - {key} - ({"items"} if kind == "labels" else set()):
            return kind
    return "items"


def everything() -> list[tuple[str, str]]:
    """Kind and name of every shipped file, each read and checked."""
    found = []
    for kind, read in READERS.items():
        for path in sorted((materials.DATA / kind).glob("*.yml")):
            read(path.stem)
            found.append((kind, path.stem))
    return found
