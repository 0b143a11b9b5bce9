#!/bin/bash
# Writes the bill of materials of the program (CycloneDX, JSON) and a list of its parts by licence into a folder.
#
#     profiles/parts.sh FOLDER
set -euo pipefail

folder="${1:?the folder to write to}"
root="$(cd "$(dirname "$0")/.." && pwd)"
if ! command -v cargo-cyclonedx > /dev/null; then
    echo "cargo-cyclonedx is missing: cargo install --locked cargo-cyclonedx" >&2
    exit 1
fi
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
cd "$root"
cargo cyclonedx --quiet --format json --spec-version 1.5 --no-default-features --target "${ADIT_TARGET:-x86_64-unknown-linux-gnu}" \
    --override-filename parts.cdx
# The references of our own packages name the folder of this machine.
sed "s|file://$root|file:///src|g" parts.cdx.json > "$folder/adit.cdx.json"
rm parts.cdx.json
# adit-loadtest is not shipped.
rm -f loadtest/parts.cdx.json

python3 - "$folder/adit.cdx.json" > "$folder/licences.txt" << 'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    parts = json.load(file)["components"]
by_licence = {}
for part in parts:
    named = [one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in part.get("licenses", [])]
    by_licence.setdefault(" ".join(" AND ".join(named).split()) or "none is named", []).append(f"{part['name']} {part['version']}")
for licence, names in sorted(by_licence.items()):
    print(f"{licence}\n" + "".join(f"  {name}\n" for name in sorted(names)))
PYTHON
echo "$folder/adit.cdx.json and $folder/licences.txt were written"
