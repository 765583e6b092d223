"""Exports of Software Heritage as a source: tables by column projection, contents from wherever they are."""
