"""What Sphinx reads; ``make_site.py`` copies it beside the pages."""

project = "stillroom"
html_show_copyright = False
html_show_sphinx = False
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "stillroom"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_extra_path = ["../extra"]
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
