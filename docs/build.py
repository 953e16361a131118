"""Write the generated pages (`make docs`), or with --check fail if one is stale."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    """Write or check every page; return 1 if a page was stale."""
    os.environ["COLUMNS"] = "100"
    from pages import PAGES, WARNING

    is_check = "--check" in sys.argv[1:]
    stale = []
    for name, render in PAGES.items():
        path, text = FOLDER / name, WARNING + render().rstrip() + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not is_check:
            path.write_text(text, encoding="utf-8")
    if stale:
        verb = "stale, run `make docs`" if is_check else "written"
        sys.stdout.write(f"docs: {', '.join(stale)} {verb}\n")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
