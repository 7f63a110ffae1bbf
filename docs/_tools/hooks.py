"""Write the page of the command line, and hold every page to what works without the web."""

import argparse
import logging
import re

from gvtnets_tf.cli import main as cli

MARK = "<!-- commands -->"
# What a browser would fetch by itself; links that a reader follows are not meant.
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//|class=[\"']?mermaid"
    r"|<link(?=[^>]+rel=[\"']?(?:stylesheet|preconnect|icon))[^>]+href=[\"']?(?:https?:)?//"
)
FLAG = re.compile(r"<code>(?=--[\w-]+</code>)")
log = logging.getLogger("mkdocs.hooks.gvtnets_tf")


def on_page_markdown(markdown, page, **kwargs):
    """Put the commands and their flags where the page asks for them."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n".join(describe(cli.parser(), level=1)))


def on_page_content(html, **kwargs):
    """Mark flags, which a browser would break after their hyphens."""
    return FLAG.sub('<code class="flag">', html)


def on_post_page(output, page, **kwargs):
    """Warn, which `--strict` makes an error, of a page that fetches something from the web."""
    if found := FETCHED.search(output):
        log.warning("%s fetches from the web: %s", page.file.src_uri, found[0])


def describe(parser, level):
    """Yield the Markdown of a command, its arguments, and the commands below it."""
    actions = [a for a in parser._actions if not {"--help", "--debug"} & {*a.option_strings}]
    below = [a for a in actions if isinstance(a, argparse._SubParsersAction)]
    needed = [a for a in actions if (a.required or not a.option_strings) and a not in below]
    needed.sort(key=lambda a: bool(a.option_strings))  # as argparse prints them
    optional = [a for a in actions if a not in (*needed, *below)]
    if level > 1:
        words = [parser.prog, *map(shape, needed), "[options]" if optional else ""]
        yield f"\n{'#' * level} {parser.prog}\n\n{parser.description}\n"
        if not below:
            yield f"```text\n{' '.join(words).strip()}\n```\n"
            yield '<div class="keys" markdown>\n\n| argument | value | meaning |\n|---|---|---|'
            yield "\n".join(map(row, [*needed, *optional])) + "\n\n</div>\n"
    for action in below:
        for command in action.choices.values():
            yield from describe(command, level + 1)


def shape(action):
    """An argument as it is typed, e.g. `--out OUT`."""
    words = " ".join([*action.option_strings[:1], value(action)]).strip()
    return words if action.required else f"[{words}]"


def value(action):
    """What stands for the value of an argument, e.g. `Z Y X`; nothing for a switch."""
    if action.nargs == 0:
        return ""
    if action.choices:
        return "|".join(map(str, action.choices))
    name = action.metavar or action.dest.upper()
    return " ".join(name) if isinstance(name, tuple) else name


def row(action):
    """The row of a table for one argument."""
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{value(action)}`"
    kind = []
    if action.choices:
        kind.append(", ".join(f"`{choice}`" for choice in action.choices))
    elif action.option_strings and value(action):
        kind.append(f"`{value(action)}`")
    if action.nargs in ("+", "*"):
        kind.append("one or more")
    if action.required and action.option_strings:
        kind.append("required")
    if action.default not in (None, False, argparse.SUPPRESS):
        kind.append(f"default `{action.default}`")
    return f"| {names} | {', '.join(kind)} | {(action.help or '').replace('|', '&#124;')} |"
