"""The folder of a Ray that was started here: it goes when Ray has ended, though Ray's processes end one by one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from lifepool.backends.ray import local

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_folder_into_which_something_is_still_written_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    remove, times = shutil.rmtree, []

    def remove_while_a_process_writes(path: Path, **options: Any) -> None:
        remove(path, **options)
        times.append(path)
        if len(times) == 1:
            path.mkdir()
            (path / "log").write_text("the last words")

    monkeypatch.setattr(shutil, "rmtree", remove_while_a_process_writes)
    local._remove(folder)
    assert not folder.exists()
    assert len(times) == 2
