"""What MkDocs does with the pages before it builds the site: links, maths, and the pages that are not files of docs/.

README.md, CONTRIBUTING.md, CHANGELOG.md, bench/README.md and the notebook become pages, the reference is generated
(site_reference.py), and a file of the project that a page links to is shown as a page. So every link leads to
something that can be read without a network.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # dissectdb, whose commands, views and study keys the reference describes

import site_maths  # noqa: E402
import site_reference  # noqa: E402

PAGES = {  # page of the site → file of the project
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "measurements.md": "bench/README.md",
}
NOTEBOOK = "notebook.md"
GENERATED = {
    "sql/views": "reference/views.md"
}  # folder of the project → the page of the reference that is made from it
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(\))")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*images/[\w-]+)\.png\)")
FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".toml": "toml", ".py": "python", ".sql": "sql"}
ROOMS = ("extract", "warehouse", "reports")


# ---------------------------------------------------------------- events of MkDocs


def on_startup(**_: Any) -> None:
    """The rooms linked to one package. mkdocstrings looks only into folders that are there when it is configured."""
    package = ROOT / "build" / "docs" / "dissectdb"
    package.mkdir(parents=True, exist_ok=True)
    for target in [*(ROOT / "dissectdb").glob("*"), *(ROOT / room for room in ROOMS)]:
        link = package / target.name
        if not link.exists():
            link.unlink(missing_ok=True)  # a link to what was there once
            link.symlink_to(target, target_is_directory=target.is_dir())


def on_config(config: Any) -> Any:
    """Anchors as GitHub makes them."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/, and a page for each file of the project that a page links to."""
    texts = {page: (ROOT / file).read_text(encoding="utf-8") for page, file in PAGES.items()}
    files.append(File.generated(config, f"site/assets/{site_maths.FONT.name}", abs_src_path=str(site_maths.FONT)))
    texts[NOTEBOOK] = notebook(ROOT / "docs" / "dissect.ipynb")
    texts |= site_reference.pages()
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    written = {file.src_uri: file.content_string for file in files if file.is_documentation_page()}
    for target in sorted({target for page, text in written.items() for target in targets_outside(page, text)}):
        path = ROOT / target
        if path.suffix == ".png":
            files.append(File.generated(config, f"files/{target}", abs_src_path=str(path)))
        elif path.exists():
            files.append(
                File.generated(config, site_path(target), content=shown(path), inclusion=InclusionLevel.NOT_IN_NAV)
            )
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text with the links of the site, and its formulas taken out until the page is HTML."""
    return site_maths.taken_out(outside_fences(markdown, lambda text: themed(rewritten(page.file.src_uri, text))), page)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """The page with its formulas as MathML."""
    return site_maths.put_back(html, page)


# ---------------------------------------------------------------- anchors and links


def slugify(heading: str, separator: str) -> str:
    """The anchor that GitHub gives a heading.

    >>> slugify("§6 Edits, `modify`", "-")
    '6-edits-modify'
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def site_path(file: str) -> str:
    """The page of the site that shows a file of the project.

    >>> [site_path(file) for file in ("README.md", "docs/study.md", "studies/demo.toml", "extract/a.png", "sql/views")]
    ['index.md', 'study.md', 'files/studies/demo.toml.md', 'files/extract/a.png', 'reference/views.md']
    """
    if file == "docs/dissect.ipynb":
        return NOTEBOOK
    pages = {file: page for page, file in PAGES.items()} | GENERATED
    if file in pages or file.startswith("docs/"):
        return pages.get(file, file.removeprefix("docs/"))
    return f"files/{file}" if file.endswith(".png") else f"files/{file}.md"


def file_of(page: str) -> str:
    """The file of the project that a page of the site is written in; links in it are relative to that file."""
    return PAGES.get(page, f"docs/{page}")


def target_of(page: str, link: str) -> str:
    """The file of the project that a link in a page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(file_of(page)), link))


def targets_outside(page: str, text: str) -> Iterator[str]:
    """The files outside docs/ that a page links to and that are not pages anyway."""
    for _, link, _, _ in LINK.findall(text):
        target = target_of(page, link)
        if not target.startswith("docs/") and target not in PAGES.values() and target not in GENERATED:
            yield target


def rewritten(page: str, text: str) -> str:
    """The text with each link to a file of the project as a link to the page that shows it."""

    def link(match: re.Match[str]) -> str:
        target = site_path(target_of(page, match[2]))
        return match[1] + posixpath.relpath(target, posixpath.dirname(page)) + (match[3] or "") + match[4]

    return LINK.sub(link, text)


def themed(text: str) -> str:
    """The text with each picture twice, for light and for dark pages, of which the site shows one.

    >>> themed("![The report](images/report.png)")
    '![The report](images/report.png#only-light)![The report](images/report-dark.png#only-dark)'
    """
    return IMAGE.sub(r"![\1](\2.png#only-light)![\1](\2-dark.png#only-dark)", text)


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """The text, changed everywhere but in fenced blocks."""
    parts = FENCE.split(text)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


# ---------------------------------------------------------------- files as pages


def shown(path: Path) -> str:
    """A page with the text of a file, or of the Python files of a folder."""
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    blocks = []
    for file in files:
        name = os.path.relpath(file, ROOT)
        text = file.read_text(encoding="utf-8").rstrip()
        if text:
            blocks.append(f"## {name}\n\n````{LANGUAGES.get(file.suffix, 'text')}\n{text}\n````\n")
    return "\n".join([f"# {path.relative_to(ROOT)}\n", *blocks])


def notebook(path: Path) -> str:
    """A notebook as a page, without what it shows."""
    blocks = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        blocks.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join([*blocks, ""])
