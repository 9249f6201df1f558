"""A preprocessor of mdbook: what lies outside of docs/ is in the repository, and not in the book."""

import json
import re
import sys

REPOSITORY = "https://github.com/witgate/witgate/blob/main/"

if sys.argv[1:2] == ["supports"]:
    sys.exit(0)


def lead_out(items):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            content = chapter["content"]
            chapter["content"] = re.sub(r"\]\((\.\./)+", f"]({REPOSITORY}", content)
            lead_out(chapter["sub_items"])


_, book = json.load(sys.stdin)
lead_out(book["items"] if "items" in book else book["sections"])
json.dump(book, sys.stdout)
