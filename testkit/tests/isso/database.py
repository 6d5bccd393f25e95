"""Isso's own database. `database.py FILE`: its rows as JSON. `database.py FILE ID`: a moderator lets a comment through."""

import html
import json
import sqlite3
import sys
from decimal import Decimal


def ms(seconds):
    # As JSON writes it, digit for digit: times 1000 in floating point can end a millisecond lower.
    return None if seconds is None else int(Decimal(repr(seconds)) * 1000)


def key(row):
    # A number is given anew once its comment is gone, so the platform's filters add the time of writing.
    return f"{row['id']}-{int(row['created'] * 1000)}"


with sqlite3.connect(sys.argv[1], timeout=10) as db:
    if len(sys.argv) > 2:
        # What Isso does itself when the link in a moderator's mail is opened.
        db.execute("UPDATE comments SET mode = 1 WHERE id = ? AND mode = 2", (sys.argv[2],))
    db.row_factory = sqlite3.Row
    rows = list(db.execute("SELECT c.*, t.uri FROM comments c JOIN threads t ON t.id = c.tid"))
    keys = {row["id"]: key(row) for row in rows}
    comments = [
        {
            "id": keys[row["id"]],
            "uri": row["uri"],
            "parent": row["parent"] and keys[row["parent"]],
            "created_ms": ms(row["created"]),
            "modified_ms": ms(row["modified"]),
            "mode": row["mode"],
            "text": row["text"],
            "author": row["author"] and html.unescape(row["author"]),
            "email": row["email"],
            "likes": row["likes"],
        }
        for row in rows
    ]
    threads = [dict(row) for row in db.execute("SELECT uri, title FROM threads")]
print(json.dumps({"comments": comments, "threads": threads}))
