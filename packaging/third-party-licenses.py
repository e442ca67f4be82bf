#!/usr/bin/env python3
"""Writes the licenses of the crates in a program to standard output, each text once.

    packaging/third-party-licenses.py TARGET [bastion|server]

A crate that is published without its license's text gets the standard one; if there is none for it here,
this fails and names the crate. Beside Rust's own tools it needs nothing. cargo-about does the same, and takes longer to build than a
release.
"""

import json
import subprocess
import sys
from pathlib import Path

PROGRAMS = {"bastion": "holistics-tunnel", "server": "holistics-tunnel-server"}
# How the names of such files begin, in small letters.
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")

MIT = """MIT License

Copyright (c) {authors}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE."""


def cargo(command, feature, *arguments):
    words = ["cargo", command, "--locked", "--no-default-features", "--features", feature, *arguments]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked_crates(target, feature):
    """Name and version of each crate but our own."""
    tree = cargo("tree", feature, "--target", target, "--edges", "normal", "--prefix", "none", "--format", "{p}")
    crates = {tuple(line.split()[:2]) for line in tree.splitlines()}
    return {(name, version.removeprefix("v")) for name, version in crates if name != "holistics-tunnel"}


def license_texts(folder):
    """The texts in a crate's folder."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.lower().startswith(NAMES))
    return [file.read_text(errors="replace").strip().replace("\r\n", "\n") for file in files]


def standard_text(package):
    """The text of a license that a crate names and does not bring along."""
    named = package["license"] or "no license"
    choices = named.replace("/", " OR ").replace("(", " ").replace(")", " ").split()
    # Two licenses at once are more than one text.
    if "AND" not in choices and "WITH" not in choices:
        if "Apache-2.0" in choices:
            return (Path(__file__).parent.parent / "LICENSE").read_text().strip()
        if "MIT" in choices:
            return MIT.format(authors=", ".join(package["authors"]) or f"the authors of {package['name']}")
    sys.exit(f"{package['name']} {package['version']} comes without the text of its license ({named})")


def main():
    target, feature = (*sys.argv[1:], "bastion")[:2]
    metadata = json.loads(cargo("metadata", feature, "--format-version", "1", "--filter-platform", target))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    holders = {}
    print(f"The program {PROGRAMS[feature]} is under the license in the file LICENSE. It holds these crates:\n")
    for name, version in sorted(linked_crates(target, feature)):
        package = packages[name, version]
        print(f"  {name} {version}: {package['license']}")
        for text in license_texts(Path(package["manifest_path"]).parent) or [standard_text(package)]:
            holders.setdefault(text, []).append(f"{name} {version}")
    for text, names in sorted(holders.items(), key=lambda entry: entry[1]):
        print(f"\n{'=' * 80}\n{', '.join(dict.fromkeys(names))}\n{'-' * 80}\n\n{text}")


main()
