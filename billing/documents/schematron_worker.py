"""Judges documents in a process of its own, since Saxon keeps memory: one JSON request a line, one answer a line.

Started by `schematron.py`; ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from xml.etree import ElementTree as ET

SVRL = "{http://purl.oclc.org/dsdl/svrl}"


def main() -> None:
    """Read requests until there are no more."""
    from saxonche import PySaxonProcessor  # 96 MB of libraries: in this process only

    with PySaxonProcessor(license=False) as processor:
        compiler = processor.new_xslt30_processor()
        compiled: dict[str, Any] = {}
        for line in sys.stdin:
            request = json.loads(line)
            path = request["rules"]
            try:
                if path not in compiled:
                    compiled[path] = compiler.compile_stylesheet(stylesheet_file=path)
                root = ET.fromstring(request["xml"]).tag  # noqa: S314  # our own file
                if root not in request["roots"]:  # most rules would find no fault in what they do not know
                    raise ValueError(f"these rules do not judge {root}")
                node = processor.parse_xml(xml_text=request["xml"])
                answer: dict[str, Any] = {"findings": findings(compiled[path].transform_to_string(xdm_node=node))}
            except Exception as error:  # noqa: BLE001  # whatever it is, the document is not valid: the parent raises
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def findings(report: str | None) -> list[dict[str, str]]:
    """The failed assertions of an SVRL report. One without a single fired rule judged nothing: an error."""
    root = ET.fromstring(report or "")  # noqa: S314  # Saxon's own output
    if root.find(f"{SVRL}fired-rule") is None:
        raise ValueError("no rule fired")
    return [
        {
            "rule": one.get("id", "?"),
            "flag": one.get("flag", "fatal"),
            "where": one.get("location", ""),
            "words": " ".join("".join(one.itertext()).split()),
        }
        for kind in ("failed-assert", "successful-report")
        for one in root.iter(f"{SVRL}{kind}")
    ]


if __name__ == "__main__":
    main()
