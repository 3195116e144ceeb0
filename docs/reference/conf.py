"""The API reference, made by Sphinx from docstrings: `python -m sphinx -W docs/reference site`. Loads nothing from elsewhere."""

from voiceops import __version__

project = "voiceops"
version = release = __version__
extensions = ["sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Runs self-hosted LiveKit voice agents",
    "fixed_sidebar": True,
    "show_powered_by": False,
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sourcelink = False
default_role = "code"
add_module_names = False
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}

autodoc_preserve_defaults = True  # as they stand in the code: a value may be the environment of the build
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
