"""The list of all cases in docs/clients.md, between two lines that say where it begins and ends."""

import os
import sys

import tempest_zaqar

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "clients.md")

BEGIN, END = "<!-- cases: make client-table -->\n", "<!-- end of the cases -->\n"
PLUGIN = f"zaqar-tempest-plugin {tempest_zaqar.VERSION}"


def write(apis):
    """Writes the list into the document, in place of the one there is."""
    head, _, tail = split()
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(head + "".join(f"\n### {name}\n\n{table}\n" for name, table in chapters(apis).items()) + "\n" + tail)
    return 0


def check(apis):
    """Says whether the document lists the cases that there are. Those of another version of
    zaqar-tempest-plugin may be others and are let be."""
    there = {f"{name}\n\n{table}".strip() for name, table in chapters(apis).items()}
    listed = {part.strip() for part in split()[1].split("### ")[1:]}
    if not any(part.startswith(PLUGIN + "\n") for part in listed):
        print(f"docs/clients.md knows another version of the plugin than {PLUGIN}: its tests are not compared")
        listed, there = ({part for part in one if not part.startswith("zaqar-tempest-plugin ")} for one in (listed, there))
    if listed == there:
        return 0
    for mark, one, other in ("-", listed, there), ("+", there, listed):
        known = {row for part in other for row in part.splitlines()}
        for row in sorted({row for part in one for row in part.splitlines()} - known):
            print(mark, row, file=sys.stderr)
    print("docs/clients.md does not list the cases that there are; make client-table writes them", file=sys.stderr)
    return 1


def split():
    """The document before the list, the list, and what follows."""
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:begin], text[begin:end], text[end:]


def chapters(apis):
    """The tables by their names: one for each API, and the plugin's."""
    made = {}
    for api in apis:
        for cases in api.cases:
            name = PLUGIN if isinstance(cases, tempest_zaqar.Plugin) else api.name
            made.setdefault(name, []).extend(cases.rows())
    return {name: f"{len(rows)} cases.\n\n" + table(rows) for name, rows in made.items()}


def table(rows):
    """Rows of client, call and what has to be true as a table; what is the case above is
    not said again."""
    lines, above = ["| client | call | what has to be true |", "| --- | --- | --- |"], ("", "")
    for client, call, says in rows:
        first = "" if client == above[0] else client
        second = "" if (client, call) == above else f"`{call}`"
        above = client, call
        lines.append(f"| {first} | {second} | {says.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
