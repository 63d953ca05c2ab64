"""How Sphinx builds the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "django_idempotency" / "__init__.py").read_text()

project = "django-idempotency"
release = re.findall(r'^__version__ = "(.+)"$', SOURCE, re.MULTILINE)[0]
extensions = ["sphinxcontrib.svgbob"]
html_theme = "alabaster"
html_theme_options = {"page_width": "68rem", "sidebar_width": "15rem"}
html_static_path = ["_static"]
html_css_files = ["docs.css"]
exclude_patterns = ["_build"]
