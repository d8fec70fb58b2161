"""Links out of the docs to words: the site has no source to point to, the repository has.

`mkdocs.yml` names this file; MkDocs calls `on_page_markdown` for each page.
"""

import re
from pathlib import PurePosixPath
from typing import Any

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links that leave ``docs/`` as their words, and the file's name on hover."""
    folder = PurePosixPath(page.file.src_uri).parent
    return _LINK.sub(lambda found: _inside(folder, found), markdown)


def _inside(folder: PurePosixPath, found: re.Match[str]) -> str:
    target = found[2]
    if "://" in target or target.startswith("mailto:"):
        return found[0]
    depth = -len(folder.parts)
    for part in PurePosixPath(target).parts:
        depth += 1 if part == ".." else 0
    if depth <= 0:
        return found[0]
    file = "/".join(part for part in PurePosixPath(target).parts if part != "..")
    return f'<span title="{file}">{found[1]}</span>'
