"""Looks at the built pages in a browser, narrow and wide, light and dark.

``SITE=folder pytest docs/test_site.py``, where the folder is what Sphinx has built;
without ``SITE`` it is ``docs/_build/html``. Pictures of all pages are left in
``docs/_build/screens``.
"""

import functools
import http.server
import os
import pathlib
import re
import shutil
import threading

import pytest
from playwright.sync_api import sync_playwright

HERE = pathlib.Path(__file__).parent
SITE = pathlib.Path(os.environ.get('SITE', HERE / '_build/html'))
SCREENS = HERE / '_build/screens'
PAGES = [
  *sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob('*.html')
    if '_modules' not in path.parts
  ),
  '_modules/jprune/schedules.html',  # stands for all sources
]
MADE = ('genindex.html', 'py-modindex.html', 'search.html')
WIDTHS = (390, 1440)
MOST = 8000  # pixels of a long page that its picture shows

# Words that readers look for, and pages of which one has to be among the first results.
SEARCHES = {
  '2:4': ['guides/one_shot', 'guides/choosing', 'recipes/llama'],
  'gradual': ['recipes/gradual'],
  'hugging face': ['recipes/hugging_face'],
  'from scratch': ['recipes/from_scratch'],
  'tensorboard': ['recipes/logging'],
  'wandb': ['recipes/logging'],
  'quantization': ['recipes/quantization'],
  'onnx': ['recipes/export'],
  'vit': ['recipes/faster_vit'],
}

STICKING_OUT = """() => {
  const right = node => node.getBoundingClientRect().right;
  const scrolls = node => right(node) <= innerWidth + 1
    && ['auto', 'scroll'].includes(getComputedStyle(node).overflowX);
  const boxed = node => {  // inside of a box that scrolls, below the article
    for (let up = node.parentElement; up?.closest('article'); up = up.parentElement)
      if (scrolls(up)) return true;
    return false;
  };
  const said = node => `<${node.tagName} class="${node.className}"> ends at `
    + `${Math.round(right(node))}: ${node.innerText?.slice(0, 40)}`;
  const all = document.querySelectorAll('article, article *, header *, footer *');
  const found = [...all].filter(node => right(node) > innerWidth + 1 && !boxed(node)
    && node.getBoundingClientRect().width > 1
    && getComputedStyle(node).visibility == 'visible').map(said);
  const width = document.documentElement.scrollWidth;
  return width > innerWidth ? [`the page is ${width} pixels wide`, ...found] : found;
}"""

LONG_CODE = """() => [
    ...document.querySelectorAll('.cell_input pre, [class*=highlight-] pre')
  ].filter(node => node.scrollWidth > node.clientWidth)
  .map(node => `code wider than its column: ${node.innerText.slice(0, 60)}`)"""


# A cell that prints has its output under it and nothing else: no warning, no bars.
UNSAID = """() => [...document.querySelectorAll('.cell')].filter(cell =>
    /^print\\(/m.test(cell.querySelector('.cell_input')?.innerText)
    && !cell.querySelector('.cell_output .stream, .cell_output .text_plain')
    || cell.querySelector('.stderr, .traceback')
    || /\\d(it|s)\\/(s|it)\\b|\\r/.test(cell.querySelector('.cell_output')?.innerText))
  .map(cell => `not what was printed: ${cell.innerText.slice(0, 80)}`)"""

NOT_SET = """() => [...document.querySelectorAll('.math')]
  .filter(node => !node.querySelector('mjx-container')
    || node.querySelector('mjx-merror'))
  .map(node => `formula not set: ${node.innerText}`)"""


def executable():
  """Chromium of the system, or the one that Playwright has downloaded."""
  names = ('chromium', 'chromium-browser', 'google-chrome')
  return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope='session')
def browser():
  with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(
      executable_path=executable(), args=['--no-sandbox', '--disable-gpu']
    )
    yield chromium
    chromium.close()


@pytest.fixture(scope='session')
def address():
  """Where the pages are served, so that their search may fetch what it shows."""

  class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
      pass

  server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), functools.partial(Quiet, directory=SITE)
  )
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f'http://127.0.0.1:{server.server_port}/'
  server.shutdown()
  server.server_close()


@pytest.fixture(scope='session')
def context(browser):
  context = browser.new_context()
  yield context
  context.close()


@pytest.fixture
def page(context):
  page = context.new_page()
  yield page
  page.close()


def heard(page, address):
  """A list that grows by what goes wrong: errors, requests that fail or go out."""
  found = []
  said = lambda message: message.type == 'error' and found.append(message.text)
  page.on('console', said)
  page.on('pageerror', lambda error: found.append(str(error)))
  page.on('requestfailed', lambda request: found.append(f'failed: {request.url}'))
  page.on('response', lambda got: got.ok or found.append(f'{got.status}: {got.url}'))
  outside = lambda url: not url.startswith((address, 'data:', 'about:'))
  page.on('request', lambda it: outside(it.url) and found.append(f'outside: {it.url}'))
  return found


def seen(page, width):
  """What sticks out of a page at a width."""
  page.set_viewport_size({'width': width, 'height': 900})
  return page.evaluate(STICKING_OUT) + (
    page.evaluate(LONG_CODE) if width > 1000 else []
  )


@pytest.mark.parametrize('name', PAGES)
def test_page(page, address, name):
  problems = heard(page, address)
  page.goto(address + name)
  page.evaluate('window.MathJax?.startup?.promise')
  problems += page.evaluate(NOT_SET) + page.evaluate(UNSAID)
  for width in WIDTHS:
    problems += [f'at {width}: {what}' for what in seen(page, width)]
    for scheme in ('light', 'dark'):
      page.emulate_media(color_scheme=scheme)
      picture = SCREENS / f'{name.removesuffix(".html")}-{width}-{scheme}.png'
      height = page.evaluate('document.documentElement.scrollHeight')
      clip = {'x': 0, 'y': 0, 'width': width, 'height': min(height, MOST)}
      page.screenshot(path=picture, full_page=True, clip=clip)
  assert problems == []


@pytest.mark.parametrize('words', SEARCHES)
def test_search_finds(page, address, words):
  problems = heard(page, address)
  page.goto(f'{address}search.html?q={words.replace(" ", "+")}')
  found = page.locator('#search-results li > a')
  found.nth(0).wait_for(timeout=60_000)
  three = 'document.querySelectorAll("#search-results li").length > 2'
  page.wait_for_function(f'{three} || Search.status.innerText.includes("found")')
  links = [link.get_attribute('href') for link in found.all()]
  first = [link.partition('.html')[0] for link in links[:3]]
  assert any(link.startswith(tuple(SEARCHES[words])) for link in first), first
  assert problems == []


def test_pages_name_nothing_elsewhere():
  """No script, style, picture or font comes from the network."""
  remote = re.compile(
    r'<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//[^"]*"'
    r'|<link\b[^>]*\brel="(?:stylesheet|preload|preconnect)"[^>]*\bhref="(?:https?:)?//'
    r'|(?:@import|url\()\s*["\']?(?:https?:)?//'
  )
  files = [path for kind in ('html', 'css') for path in SITE.rglob(f'*.{kind}')]
  found = {path.name: remote.search(path.read_text()) for path in files}
  assert {name: match.group() for name, match in found.items() if match} == {}


def test_pages_say_what_they_are():
  """To whom they are shown by others; notebooks also say where they can be had."""
  for name in PAGES:
    if '_modules' in name or name in MADE:
      continue
    text = (SITE / name).read_text()
    for mark in ('name="description"', 'property="og:title"', 'rel="shortcut icon"'):
      assert mark in text, f'{name} has no {mark}'
    notebook = re.search(r'href="([^"]*\.ipynb)" download', text)
    assert ('examples/' in name and 'index' not in name) == bool(notebook), name
    assert not notebook or (SITE / name).parent.joinpath(notebook[1]).exists()


@pytest.mark.parametrize(
  ('body', 'complaint'),
  [
    ('<article><p style="width: 500px">wide</p></article>', 'the page is 5'),
    (
      '<div style="overflow: auto"><article><p style="width: 500px">wide</article>',
      'ends at',
    ),
    (
      '<article><pre style="overflow: auto"><b>' + 'x' * 200 + '</b></pre></article>',
      None,
    ),
  ],
)
def test_what_sticks_out_is_seen(page, body, complaint):
  page.set_content(f'<body style="margin: 0">{body}')
  found = seen(page, 390)
  assert found == [] if complaint is None else any(complaint in what for what in found)


@pytest.mark.parametrize(
  ('output', 'complaints'),
  [
    ('', 1),
    ('<div class="output stream">3</div>', 0),
    ('<div class="output stream">3</div><div class="output stderr">Warning</div>', 1),
    ('<div class="output stream">50% 3/6 [00:01, 2.9it/s]</div>', 1),
  ],
  ids=['nothing', 'output', 'warning', 'bar'],
)
def test_a_print_without_its_output_is_seen(page, output, complaints):
  cell = (
    f'<pre class="cell_input">print(3)</pre><div class="cell_output">{output}</div>'
  )
  page.set_content(f'<div class="cell">{cell}</div>')
  assert len(page.evaluate(UNSAID)) == complaints


def test_a_formula_that_is_not_set_is_seen(page):
  page.set_content('<span class="math">x</span>')
  assert page.evaluate(NOT_SET) == ['formula not set: x']


def test_code_wider_than_its_column_is_seen(page):
  code = f'<pre style="overflow: auto; width: 80ch">{"x" * 89}</pre>'
  page.set_content(f'<article><div class="highlight-python">{code}</div></article>')
  assert any('code wider' in what for what in seen(page, 1440))


@pytest.mark.parametrize(
  ('script', 'complaint'),
  [
    ('console.error("broken")', 'broken'),
    ('nothing()', 'nothing is not defined'),
    ('document.body.append(Object.assign(new Image(), {src: "nowhere.png"}))', '404'),
    (
      'document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/"}))',
      'out',
    ),
  ],
  ids=['console', 'exception', 'missing', 'outside'],
)
def test_what_goes_wrong_is_heard(page, address, script, complaint):
  problems = heard(page, address)
  page.goto(address + 'genindex.html')
  page.evaluate(f'setTimeout(() => {{ {script} }})')
  page.wait_for_timeout(300)
  assert any(complaint in what for what in problems), problems
