"""Docstrings as Keras writes them, in the form that the reference can show.

Types told in words become types; arguments that share an entry get one each; call arguments
get a table of their own; a reference is a paragraph, and an example is code.
"""

import re
import textwrap

import griffe

NAME = r"(?:int|float|bool|str|`[\w.]+`|(?:list|tuple|sequence) of (?:int|float|str|`\w+`))"
TYPE = re.compile(rf"^( {{4}}\w+): ({NAME}(?:(?:,| or|, or) {NAME})*)\. (?=\S)", re.MULTILINE)
# Several arguments told in one entry.
SHARED = re.compile(
    r"^( {4})(\*{0,2}\w+(?:, \*{0,2}\w+)+):((?: .*)?(?:\n {5,}.*)*\n?)", re.MULTILINE
)
BLOCK = r":\n((?: {4}.*\n?|\n)+)"
ARGUMENTS = re.compile(rf"^(Args|Attributes|Call arguments){BLOCK}", re.MULTILINE)
RETURNS = re.compile(r"(?<=^Returns:\n)( {4}.*)", re.MULTILINE)
REFERENCE = re.compile(rf"^Reference{BLOCK}", re.MULTILINE)
TITLES = {"Args": "Args: Argument", "Call arguments": "Other Parameters: Call argument"}


def rewrite(text):
    """Rewrite the sections of a docstring to those that griffe knows."""

    def mark(found):
        return f"{found[1]} ({found[2].replace('`', '')}): "

    def split(found):
        end = found[3].rstrip("\n") + "\n"
        return "".join(f"{found[1]}{name}:{end}" for name in found[2].split(", "))

    def retitle(found):
        entries = TYPE.sub(mark, SHARED.sub(split, found[2]))
        return TITLES.get(found[1], f"{found[1]}:") + "\n" + entries

    def cite(found):
        return f"**Reference**: {textwrap.dedent(found[1]).strip()}\n\n"

    # What stands before a colon would be taken for a type; the template puts it back.
    text = RETURNS.sub(lambda found: found[1].replace(":", "\ue000"), text)
    text = REFERENCE.sub(cite, ARGUMENTS.sub(retitle, text))
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


class KerasDocstrings(griffe.Extension):
    """Rewrite every docstring before it is parsed."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = rewrite(obj.docstring.value)
