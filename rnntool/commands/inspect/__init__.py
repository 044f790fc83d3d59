"""`rnntool inspect`: look inside a network. Each subcommand prints a table and can draw a picture.

To add a subcommand, write a module with a function of the same name, and add a row here.
"""

from __future__ import annotations

from rnntool.commands.groups import Row


def rows() -> tuple[Row, ...]:
    """Return the subcommands in the order of the help."""
    package = "rnntool.commands.inspect"
    return (
        Row("gradients", "Show how much of a gradient is left k steps back.", f"{package}.gradients"),
        Row("clusters", "Cluster words by the mean states of a network after them.", f"{package}.clusters"),
        Row("neighbors", "List the words whose vectors are nearest, by cosine.", f"{package}.neighbors"),
        Row("analogy", "Answer what is to C as B is to A.", f"{package}.analogy"),
        Row("similarity", "Compare cosines of word vectors with human judgments of similarity.",
            f"{package}.similarity"),
        Row("attention", "Show which tokens of the source a model looks at while it writes a target.",
            f"{package}.attention"),
        Row("states", "Show how the activations of single units change along a text.", f"{package}.states"),
    )
