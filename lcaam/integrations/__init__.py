"""Masks in other people's models. Importing lcaam imports none of them; each needs the library it is named after."""
