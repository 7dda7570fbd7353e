"""A lock has every package at its version with its file's hash, and refuses what has none."""

import pytest
from locked import lock


def entry(name: str, version: str, **where: object) -> dict[str, object]:
    return {"metadata": {"name": name, "version": version}, "download_info": {"url": f"https://somewhere/{name}.whl", **where}}


def test_each_package_stands_with_its_hash_and_the_project_itself_does_not():
    some = [
        entry("Torch", "2.13.0+cpu", archive_info={"hashes": {"sha256": "aa"}}),
        entry("numpy", "2.3", archive_info={"hashes": {"sha256": "bb"}}),
    ]
    report = {"install": [*some, entry("circuit-workbench", "0.1.0", dir_info={"editable": True})]}
    assert lock(report) == "numpy==2.3 --hash=sha256:bb\nTorch==2.13.0+cpu --hash=sha256:aa\n"


def test_a_package_without_a_hash_is_refused_by_name():
    with pytest.raises(ValueError, match=r"odd 1\.0 has no SHA-256"):
        lock({"install": [entry("odd", "1.0", vcs_info={})]})
