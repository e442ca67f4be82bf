#!/usr/bin/env python3
"""Writes the licenses of the crates in a bastion's program to standard output, each text once.

    packaging/third-party-licenses.py TARGET

Beside Rust's own tools it needs nothing. cargo-about does the same, and takes longer to build than a
release.
"""

import json
import subprocess
import sys
from pathlib import Path

FEATURES = ["--locked", "--no-default-features", "--features", "bastion"]
# How the names of such files begin, in small letters.
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")


def cargo(command, *arguments):
    words = ["cargo", command, *FEATURES, *arguments]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked_crates(target):
    """Name and version of each crate but our own."""
    tree = cargo("tree", "--target", target, "--edges", "normal", "--prefix", "none", "--format", "{p}")
    crates = {tuple(line.split()[:2]) for line in tree.splitlines()}
    return {(name, version.removeprefix("v")) for name, version in crates if name != "holistics-tunnel"}


def license_texts(folder):
    """The texts in a crate's folder."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.lower().startswith(NAMES))
    return [file.read_text(errors="replace").strip().replace("\r\n", "\n") for file in files]


def main():
    target = sys.argv[1]
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    holders = {}
    print("The program holistics-tunnel is under the license in the file LICENSE. It holds these crates:\n")
    for name, version in sorted(linked_crates(target)):
        package = packages[name, version]
        print(f"  {name} {version}: {package['license']}")
        for text in license_texts(Path(package["manifest_path"]).parent):
            holders.setdefault(text, []).append(f"{name} {version}")
    for text, names in sorted(holders.items(), key=lambda entry: entry[1]):
        print(f"\n{'=' * 80}\n{', '.join(dict.fromkeys(names))}\n{'-' * 80}\n\n{text}")


main()
