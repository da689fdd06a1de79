"""Give the package index a README whose links lead to the repository: there, a relative link leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

HOME = "https://github.com/lifepool/lifepool"
_RELATIVE = re.compile(r"(?P<image>!?)(?P<label>\[[^\]]*\])\((?P<path>(?!\w+:|#)[^)\s]+)\)")


def absolute(readme: str, version: str) -> str:
    """Return the page with links to the files of a version's tag."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match["image"] else "blob"
        return f"{match['image']}{match['label']}({HOME}/{kind}/v{version}/{match['path']})"

    return _RELATIVE.sub(link, readme)


class ReadmeHook(MetadataHookInterface):
    """Called by hatchling when it writes the metadata."""

    def update(self, metadata: dict[str, object]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, str(metadata["version"])),
        }
