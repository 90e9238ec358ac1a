#!/usr/bin/env python3
"""Writes the bill of materials of the program as CycloneDX 1.5, from Cargo's own metadata.

    packaging/sbom.py TARGET [--no-default-features] > lsfast.cdx.json

It lists the crates that are linked into the program for that target, and SQLite, with their licences
and the checksums of Cargo.lock. The same source makes the same bytes.
"""

import json
import os
import re
import subprocess
import sys
import time
import tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main():
    target, more = sys.argv[1], sys.argv[2:]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target, *more]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    with open(os.path.join(ROOT, "Cargo.lock"), "rb") as file:
        lock = tomllib.load(file)["package"]
    sums = {(p["name"], p["version"]): p.get("checksum") for p in lock}

    root = metadata["resolve"]["root"]
    linked, waiting = set(), [root]
    while waiting:
        package = waiting.pop()
        if package in linked:
            continue
        linked.add(package)
        for dependency in nodes[package]["deps"]:
            # Neither what only builds nor what only tests; nor macros, which run at build time.
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            macro = any("proc-macro" in t["kind"] for t in packages[dependency["pkg"]]["targets"])
            if normal and not macro:
                waiting.append(dependency["pkg"])

    def reference(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package):
        entry = {
            "type": "library",
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(package),
        }
        if package.get("license"):
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    lsfast = packages[root]
    others = sorted((packages[p] for p in linked if p != root), key=lambda p: (p["name"], p["version"]))
    components = [component(package) for package in others]
    dependencies = []
    for package in [lsfast, *others]:
        of = {packages[d["pkg"]]["id"] for d in nodes[package["id"]]["deps"]} & linked
        dependencies.append(
            {"ref": reference(package), "dependsOn": sorted(reference(packages[p]) for p in of if p != package["id"])}
        )
    for package in others:
        if package["name"] == "libsqlite3-sys":
            header = os.path.join(os.path.dirname(package["manifest_path"]), "sqlite3", "sqlite3.h")
            with open(header, encoding="utf-8") as file:
                version = re.search(r'^#define SQLITE_VERSION\s+"([^"]+)"', file.read(), re.M).group(1)
            components.append(
                {
                    "type": "library",
                    "bom-ref": f"pkg:generic/sqlite@{version}",
                    "name": "sqlite",
                    "version": version,
                    "purl": f"pkg:generic/sqlite@{version}",
                    "cpe": f"cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*",
                    "licenses": [{"expression": "blessing"}],
                }
            )
    main_component = component(lsfast)
    main_component["type"] = "application"
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "component": main_component,
        },
        "components": components,
        "dependencies": dependencies,
    }
    json.dump(bom, sys.stdout, indent=1, sort_keys=True)
    print()


main()
