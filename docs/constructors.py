"""What mkdocstrings does not see by itself: arguments that a class takes for its fields, and defaults given by name."""

from typing import Any

import griffe

from vae_jax.detector.settings import Settings

# Their subclasses are made from their fields, without a decorator that says so.
BASES = {"Module", "nn.Module", "struct.PyTreeNode", "NamedTuple"}


class Constructors(griffe.Extension):
    """Gives such classes the `__init__` that Python gives them when they are run."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Shows the default of a setting instead of the place it is taken from."""
        holder, _, name = str(attr.value).partition(".")
        if holder == "Settings" and name in vars(Settings()):
            attr.value = repr(getattr(Settings, name))

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        if BASES.isdisjoint(str(base) for base in cls.bases):
            return
        fields = [member for member in cls.attributes.values() if member.annotation and "property" not in member.labels]
        parameters = [
            griffe.Parameter(
                field.name,
                annotation=field.annotation,
                kind=griffe.ParameterKind.positional_or_keyword,
                default=default_of(field.value),
            )
            for field in fields
        ]
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))


def default_of(value: Any) -> Any:
    """A field's default, which flax's `struct.field` has as a keyword."""
    if isinstance(value, griffe.ExprCall) and str(value.function) == "struct.field":
        keywords = {str(word.name): word.value for word in value.arguments if isinstance(word, griffe.ExprKeyword)}
        return keywords.get("default")
    return value
