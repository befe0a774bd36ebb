"""Sphinx configuration: all public names on API pages, notebooks run at build."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import shutil
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import public_names  # noqa: E402
from sphinx.errors import ExtensionError  # noqa: E402
from sphinx.ext.napoleon.docstring import GoogleDocstring  # noqa: E402

project = 'jprune'
author = 'The jprune authors'
copyright = '2026, The jprune authors'
release = importlib.metadata.version('jprune')
version = release
PROJECT = tomllib.loads((HERE.parent / 'pyproject.toml').read_text())['project']
URLS = PROJECT['urls']
MATHJAX = importlib.metadata.distribution('sphinx-mathjax-offline').locate_file(
  'sphinx-mathjax-offline/static'
)

extensions = [
  'myst_nb',
  'sphinx.ext.autodoc',
  'sphinx.ext.mathjax',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
  'sphinx_copybutton',
  'sphinx_design',
  'sphinxext.opengraph',
  # beside this file
  'cells',
  'looks',
  'summaries',
  'tables',
]
exclude_patterns = ['_build', '**.ipynb_checkpoints']

# Look -----------------------------------------------------------------------------
html_theme = 'furo'
html_title = f'jprune {release}'
html_short_title = 'jprune'
html_baseurl = URLS['Documentation']
html_static_path = ['_static', str(MATHJAX)]
mathjax_path = 'mathjax/tex-chtml.js'  # from these pages, not from the network
html_css_files = ['site.css']
html_favicon = '_static/logo.svg'
html_logo = '_static/logo.svg'
templates_path = ['_templates']
html_sidebars = {
  '**': [
    f'sidebar/{part}.html'
    for part in ('brand', 'search', 'scroll-start', 'navigation', 'links', 'scroll-end')
  ]
}
html_context = {'urls': URLS}
pygments_style = 'a11y-high-contrast-light'
pygments_dark_style = 'a11y-dark'
html_theme_options = {
  'source_repository': URLS['Repository'],
  'source_branch': 'main',
  'source_directory': 'docs/',
  'top_of_page_buttons': ['view'],
}
# Notebooks, for readers to take along, lie where Sphinx copies the sources of pages.
html_sourcelink_suffix = ''
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
copybutton_selector = (
  'div.highlight-python pre, div.highlight-bash pre, .cell_input pre'
)
ogp_site_url = URLS['Documentation']
ogp_site_name = 'jprune'
ogp_social_cards = {'enable': False}  # they are drawn with a font from the network

# Python names ---------------------------------------------------------------------
# Type aliases are shown by their names; each has an entry on the page of jprune.typing.
autodoc_type_aliases = {
  name: f'~jprune.typing.{name}'
  for name in (
    'Params',
    'Masks',
    'Scores',
    'Sparsities',
    'Where',
    'Schedule',
    'Scope',
    'Reduction',
    'Normalization',
  )
}
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
add_module_names = False

# Names in a summary are whole, as those of other modules (`random`) may be the same.
suppress_warnings = ['autosummary.import_cycle']

# Every cross reference must lead somewhere. Other projects' names can't: their
# inventories lie on the network, which a build doesn't need.
nitpicky = True
nitpick_ignore_regex = [
  (
    'py:.*',
    r'(jax|jaxlib|jnp|np|numpy|optax|flax|nnx|equinox|eqx|chex)\..*',
  ),
  ('py:.*', r'(matplotlib|orbax|base)\..*'),
  ('py:.*', r'(os|pathlib|re|collections\.abc|typing|types|builtins)\..*'),
  ('py:class', r'jprune\._modules\.Module'),  # a type variable
  (
    'py:.*',
    r'(Any|Callable|Iterable|Mapping|Sequence|PathLike|NamedTuple|Axes|optional)',
  ),
]

# Pages and notebooks --------------------------------------------------------------
myst_enable_extensions = ['attrs_block', 'colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
nb_execution_mode = 'cache'
nb_execution_cache_path = str(HERE / '_build' / '.jupyter_cache')
nb_execution_show_tb = True  # a cell that fails is a warning, with where and why
nb_execution_timeout = 900
# What a cell says beside its output, warnings above all, fails the build. Bars of
# progress, which would leave their frames on pages, aren't drawn.
nb_output_stderr = 'warn'
os.environ['TQDM_DISABLE'] = '1'
os.environ['JAX_PPRINT_USE_COLOR'] = '0'  # theirs are hard to read on some grounds
os.environ['COLUMNS'] = '88'  # what prints tables fits the column of code
nb_kernel_rgx_aliases = {'.*': 'python3'}
nb_merge_streams = True


def copy_examples() -> None:
  """Puts the notebooks, and the scripts beside them, where Sphinx looks for pages."""
  target = HERE / 'examples'
  for pattern in ('*.ipynb', '*.py'):
    for stale in target.glob(pattern):
      stale.unlink()
    for path in sorted((HERE.parent / 'examples').glob(pattern)):
      shutil.copyfile(path, target / path.name)


def link_notebook(app, pagename, templatename, context, doctree) -> None:
  """Pages of notebooks lead to where these are kept, which isn't below ``docs``."""
  if pathlib.Path(context.get('sourcename', '')).suffix == '.ipynb':
    context['notebook'] = f'{URLS["Repository"]}/blob/main/{pagename}.ipynb'
    context['theme_source_directory'] = ''


def check_public_names(app, env) -> None:
  """Fails the build if a public name has no entry, no docstring or no example."""
  listed = {name for name, *_ in env.get_domain('py').get_objects()}
  public = public_names.public_names()
  problems = [f'{name} is on no API page' for name in sorted(set(public) - listed)]
  problems += public_names.undocumented()
  if problems:
    raise ExtensionError(
      'Public names that are not documented:\n  ' + '\n  '.join(problems)
    )


def summarise(app, what, name, obj, options, lines) -> None:
  """Puts a table of what a namespace has under the first sentence of its page."""
  if what == 'module' and name in public_names.namespaces() and options.get('members'):
    first = lines.index('') if '' in lines else len(lines)
    lines[first:first] = ['', f'.. summary:: {name}', '']


def whole_docstring(self) -> tuple[str, list[str]]:
  """In napoleon's place: the words before a first colon are not a type."""
  lines = self._dedent(self._consume_to_end())
  return '', self.__class__(lines, self._config).lines()


def whole_returns(self, preprocess_types: bool = False) -> list:
  """The same of what a function returns, whose type its signature says."""
  lines = self._dedent(self._consume_to_next_section())
  return [('', '', self.__class__(lines, self._config).lines())] if lines else []


def name_aliases(app, what, name, obj, options, signature, returns):
  """Shows an alias in a union (``Masks | None``) by name; protocols take nothing."""
  if signature == '(*args, **kwargs)' and getattr(obj, '_is_protocol', False):
    signature = None
  wrapped = re.compile(r"TypeAliasForwardRef\('([^']*)'\)")
  return tuple(text and wrapped.sub(r'\1', text) for text in (signature, returns))


def find_at_home(app, env, node, contnode):
  """Resolves a bare name in a docstring that is shown on another page than its own."""
  domain, name = env.get_domain('py'), node.get('reftarget', '')
  homes = sorted(
    full for full in domain.objects if re.fullmatch(rf'jprune\.\w+\.{name}', full)
  )
  if node.get('refdomain') != 'py' or not name.isidentifier() or not homes:
    return None
  where = (env, node['refdoc'], app.builder, node['reftype'], homes[0])
  return domain.resolve_xref(*where, node, contnode)


def setup(app) -> None:
  """Called by Sphinx."""
  copy_examples()
  app.connect('autodoc-process-signature', name_aliases)
  app.connect('autodoc-process-docstring', summarise)
  GoogleDocstring._consume_inline_attribute = whole_docstring
  GoogleDocstring._consume_returns_section = whole_returns
  app.connect('missing-reference', find_at_home)
  app.connect('html-page-context', link_notebook)
  app.connect('env-check-consistency', check_public_names)
