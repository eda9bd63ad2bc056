"""A hook of MkDocs: pages of the site that lie elsewhere in the repository, and links from the site into it.

A page links to a file as GitHub wants it, relative to itself. In the site, a link to another page leads to that page,
and a link to any other file of the repository leads to the repository's address.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from clinops_prefect.registry import REPOSITORY

# File of the repository -> page of the site.
PAGES = {
    "CHANGELOG.md": "project/changes.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "deployments/README.md": "how-to/deployments.md",
    "flows/README.md": "reference/icu-flows.md",
}
ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
log = get_plugin_logger("repository_pages")


def on_config(config: MkDocsConfig) -> None:
    # Not as repo_url, for which the theme asks GitHub about stars at every visit.
    config.extra["social"] = [{"icon": "fontawesome/brands/github", "link": REPOSITORY, "name": "The repository"}]
    config.watch = [*(config.watch or []), *(str(ROOT / path) for path in PAGES)]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    uri = page.file.src_uri
    source = next((path for path, name in PAGES.items() if name == uri), f"docs/{uri}")
    fences = [match.span() for match in _FENCE.finditer(markdown)]

    def replaced(link: re.Match[str]) -> str:
        target = link[2]
        if "://" in target or target.startswith("mailto:") or any(a <= link.start() < b for a, b in fences):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        name = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
        if name:
            return f"{link[1]}{posixpath.relpath(name, posixpath.dirname(uri) or '.')}{link[3]}"
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which is not in the repository", source, path)
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{link[1]}{REPOSITORY}/{kind}/main/{path}{link[3]}"

    return _LINK.sub(replaced, markdown)
