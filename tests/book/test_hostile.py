"""Twenty hostile strings in items, generations and parameters: text on every page and on paper, and nothing else."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from conftest import REPOSITORY, TINY, cli
from functional_self.runs import chapter as chapters
from functional_self.runs import execute, published
from reader import UNFOLD, pages, printed, reader

__all__ = ["reader"]
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<svg/onload=alert(4)>",
    "<iframe src=https://evil.example/5></iframe>",
    "' onmouseover='alert(6)",
    "<a href=javascript:alert(7)>seven</a>",
    "[eight](javascript:alert(8))",
    "![nine](https://evil.example/9.png)",
    "</td></tr></table><h1>ten</h1>",
    "</details></section><style>*{display:none}</style> eleven",
    "<!-- twelve",
    "]]><b>thirteen</b>",
    "&lt;script&gt;alert(14)&lt;/script&gt;",
    "{{ 7 * 7 }} ${7 * 7} fifteen",
    "{glue:text}`sixteen` {raw}`x`",
    "$\\href{javascript:alert(17)}{x}$ \\(y\\)",
    "```{raw} html eighteen",
    "<base href=https://evil.example/19/><link rel=stylesheet href=https://evil.example/19.css>",
    "<form action=https://evil.example/20><button autofocus onfocus=alert(20)>go</button></form>",
]
MADE = """() => {
  const bad = (a) => (/^on/i.test(a.name) && /alert|evil/.test(a.value))
    || /^\\s*javascript:/i.test(a.value) || /^https?:..evil/.test(a.value);
  const odd = (e) => /^(SCRIPT|STYLE|IFRAME|FORM|LINK|BASE)$/.test(e.tagName) && /alert|evil|display:none/.test(e.outerHTML);
  const said = (e) => /^(H1|B|A|BUTTON)$/.test(e.tagName) && /^(ten|thirteen|seven|eight|go)$/.test(e.textContent);
  return [...document.querySelectorAll("article *, base, [onload], [onerror]")]
    .filter((e) => [...e.attributes].some(bad) || odd(e) || said(e)).map((e) => e.outerHTML.slice(0, 200));
}"""
CELLS = """
```{code-cell} ipython3
show_table(pd.DataFrame({"answer": HOSTILE}), "Generations " + HOSTILE[0])
for place, said in enumerate(HOSTILE):
    record(f"said/{place}", said)
```

{SAID}

```{fs-explorer} tiny
```

```{fs-thresholds} tiny
```
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A small book with the strings in its items, in what it says was generated and in its parameters, and its PDF."""
    root = tmp_path_factory.mktemp("hostile")
    for name in ("book", "chapters", "claims", "params", "runs"):
        (root / name).mkdir()
    for name in ("_config.yml", "CITATION.cff", "requirements.lock", "book/_static", "book/references.bib", "book/status.md"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: chapters/tiny\n  - file: book/status\n"
    )
    (root / "book" / "index.md").write_text("# Index\n\n```{fs-claims}\n```\n")
    (root / "params" / "quick.yml").write_text("tiny: {pause: 0.0}\n")
    wordings = [
        {"ask": f"{text} first?", "reverse": f"{text} second?", "plus": f"{text} yes", "minus": f"{text} no"} for text in HOSTILE
    ]
    items = [
        {"id": f"item-{place}", "family": f"family-{place // 4}", "domain": "void", "class": "silent", "paraphrases": [wording]}
        for place, wording in enumerate(wordings)
    ]
    bank = root / "hostile.yml"
    bank.write_text(yaml.safe_dump({"specification": "assistant", "items": items}))
    source = TINY.replace('items: str = "void"', f'items: str = "{bank}"').replace(
        "n_paraphrases: int = 2", "n_paraphrases: int = 1"
    )
    source = source.replace("pause: float = 2.0", 'note: str = ""  # a remark [any text]\npause: float = 2.0')
    source = source.replace("bank = materials.balanced(materials.items(items), 2)", "bank = materials.items(items)")
    source = source.replace("import time\n", f"import time\n\nimport pandas as pd\n\nHOSTILE = {HOSTILE!r}\n")
    said = "\n".join(f"- {{glue:text}}`said/{place}`" for place in range(len(HOSTILE)))
    (root / "chapters" / "tiny.md").write_text(source + CELLS.replace("{SAID}", said))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUNCTIONAL_SELF_ROOT", str(root))
        patch.delenv("FUNCTIONAL_SELF_RUNS", raising=False)
        patch.chdir(root)
        published.publish(execute.run(chapters.load("tiny"), overrides={"note": " ".join(HOSTILE)})[0])
        done = cli("pdf")
    assert done.returncode == 0, done.stderr
    return root / "_build" / "html"


def test_hostile_strings_are_text_on_every_page(hostile, reader):
    for page in pages(hostile):
        tab = reader.open(page)
        tab.evaluate(UNFOLD)
        tab.wait_for_timeout(100)
        assert (reader.said, reader.outside) == ([], []), page.name
        made = tab.evaluate(MADE)
        assert made == [], page.name
    text = squeezed(reader.open(hostile / "chapters" / "tiny.html").locator("article").text_content())
    for string in HOSTILE:
        assert text.count(squeezed(string)) >= 5, f"in the item, the table, the prose and the parameters: {string}"
    run = json.loads(
        (hostile / "_static" / "runs" / f"{next((hostile / '_static' / 'runs').iterdir()).name}" / "manifest.json").read_text()
    )
    assert all(string in run["overrides"]["note"] for string in HOSTILE)


def test_hostile_strings_are_text_on_paper(hostile):
    pdf = hostile.parent / "book.pdf"
    text = squeezed(printed(pdf))
    for string in HOSTILE:
        assert squeezed(string) in text, string
    assert printed(pdf, "-js").strip() == ""
    assert "evil" not in printed(pdf, "-url") and "javascript" not in printed(pdf, "-url")
    raw = pdf.read_bytes()
    assert not any(word in raw for word in (b"/JavaScript", b"/Launch", b"/SubmitForm", b"/OpenAction"))


def squeezed(text: str) -> str:
    """Without any white space, which a page's width and a table's columns decide."""
    return "".join(text.replace("’", "'").split())
