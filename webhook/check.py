"""`python -m webhook check FILE…`: what the webhook would say of manifests, for pipelines that have no cluster.

Reads files, prints verdicts, exits with 0 (all would be accepted), 1 (some would be refused) or 2 (arguments or files
that cannot be read). Never asks an API server.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from api.stamp import Stamp
from webhook.documents import Document, Unreadable, read
from webhook.offline import Finding, Inspection, Requester

STDIN = "-"
_SUFFIXES = (".yaml", ".yml", ".json")


def main(arguments: Sequence[str]) -> int:
    """Judge the named files and print what comes of it; the process's exit status. SystemExit(2) for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        existing = _read(options.existing)
        documents = _read(options.files)
    except Unreadable as error:
        print(f"webhook check: {error}", file=sys.stderr)
        return 2
    groups = (*options.group, *Stamp(options.user or "check").all_groups)
    requester = Requester(options.user, tuple(dict.fromkeys(groups)), options.namespace)
    inspection = Inspection(requester, allow_insecure=options.allow_insecure_endpoints)
    inspection.know(existing)
    findings = inspection.judge(documents)
    notes = [*_notes(inspection)]
    if options.output == "json":
        print(json.dumps(_as_json(findings, notes, len(documents)), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_as_text(findings, notes, len(documents))))
    return 0 if all(finding.accepted for finding in findings) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m webhook check",
        description="Say what the webhook would say of manifests, without a cluster: policies, classes, endpoints and "
        "databases, each judged against the others. Namespaces are read for their labels; other kinds are left alone.",
        epilog="Exit status: 0 all would be accepted, 1 some would be refused, 2 something cannot be read.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML or JSON; a folder with all below it; - for stdin"
    )
    parser.add_argument(
        "--existing",
        action="append",
        default=[],
        metavar="FILE",
        help="what is in the cluster already: looked up, not judged; a database in both is judged as an update",
    )
    parser.add_argument("--namespace", "-n", default="default", help="of what names none (%(default)s)")
    parser.add_argument("--user", default="check", help="who would apply it (%(default)s)")
    parser.add_argument("--group", action="append", default=[], help="a group of that user; may be repeated")
    parser.add_argument(
        "--allow-insecure-endpoints", action="store_true", help="as the chart's value allowInsecureEndpoints"
    )
    parser.add_argument("--output", "-o", choices=("text", "json"), default="text", help="(%(default)s)")
    return parser


def _read(names: Iterable[str]) -> list[Document]:
    found: list[Document] = []
    for name in names:
        for file in _files(name):
            found += read(_text(file), "<stdin>" if file == STDIN else file)
    return found


def _files(name: str) -> Iterator[str]:
    folder = Path(name)
    if name == STDIN or not folder.is_dir():
        yield name
        return
    below = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    yield from sorted(str(path) for path in below if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _text(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unreadable(f"{file}: is not text in UTF-8") from None


def _notes(inspection: Inspection) -> Iterator[str]:
    for name in sorted(inspection.world.assumed):
        yield f'Namespace "{name}" is in no file: taken to be there, without labels of its own'


def _as_text(findings: Sequence[Finding], notes: Sequence[str], documents: int) -> Iterator[str]:
    for finding in findings:
        document = finding.document
        name = f"{finding.namespace}/{finding.name}" if finding.namespace else finding.name
        verdict = "accepted" if finding.accepted else "refused"
        yield f"{document.file}:{document.line}: {finding.kind} {name}: {verdict}"
        for fault in finding.faults:
            yield f"  {document.file}:{document.line_of(fault.path)}: {fault.path}: {fault.message}"
        yield from (f"  warning: {warning}" for warning in finding.warnings)
    yield from (f"note: {note}" for note in notes)
    counts = _counts(findings, documents)
    warned = counts["warnings"]
    yield (
        f"{counts['accepted']} accepted, {counts['refused']} refused, "
        f"{warned} {'warning' if warned == 1 else 'warnings'}; {counts['others']} of other kinds not looked at"
    )


def _as_json(findings: Sequence[Finding], notes: Sequence[str], documents: int) -> dict[str, Any]:
    objects = [
        {
            "file": finding.document.file,
            "document": finding.document.number,
            "line": finding.document.line,
            "kind": finding.kind,
            "namespace": finding.namespace,
            "name": finding.name,
            "accepted": finding.accepted,
            "violations": [
                {"field": fault.path, "line": finding.document.line_of(fault.path), "message": fault.message}
                for fault in finding.faults
            ],
            "warnings": [*finding.warnings],
        }
        for finding in findings
    ]
    return {"objects": objects, "notes": [*notes], "summary": _counts(findings, documents)}


def _counts(findings: Sequence[Finding], documents: int) -> dict[str, int]:
    accepted = sum(finding.accepted for finding in findings)
    return {
        "accepted": accepted,
        "refused": len(findings) - accepted,
        "warnings": sum(len(finding.warnings) for finding in findings),
        "others": documents - len(findings),
    }
