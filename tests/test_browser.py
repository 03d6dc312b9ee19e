"""Stored figures in a real JupyterLab: a window of 1300 pixels with the list of files open, light and dark.

It needs playwright, and a Chromium on the PATH or named by CHROMIUM (Debian: `apt-get install chromium`);
without them all tests are skipped, and tools/check.py says so.
"""
import contextlib, io, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, unittest
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ('00_tutorials/02_mrovseg_on_terrarium', '00_tutorials/03_your_own_data',
             '00_tutorials/06_ablations', '10_app/05_segmenter')
TABLES = '00_tutorials/06_ablations'      # prints the widest tables
WINDOW = dict(width=1300, height=1000)
THEMES = 'JupyterLab Light', 'JupyterLab Dark'
NEAR_WHITE = 245      # of 255, in all three channels
MOST_WHITE = 0.1      # of the pixels of a graphic: images have some; those on white had 0.13 and more
COMMANDS = 'chromium', 'chromium-browser', 'google-chrome', 'chrome'
CHROMIUM = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, COMMANDS)), None)
try: from playwright.sync_api import sync_playwright
except ImportError: sync_playwright = None
MISSING = 'no playwright' if sync_playwright is None else '' if CHROMIUM else 'no Chromium'

@contextlib.contextmanager
def lab(folder):
    "JupyterLab serving `folder` on a free port: its address"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory() as tmp:
        (settings := Path(tmp)/'settings').mkdir()
        no_news = dict(fetchNews='false', checkForUpdates=False)
        overrides = {'@jupyterlab/apputils-extension:notification': no_news}
        (settings/'overrides.json').write_text(json.dumps(overrides))
        places = [f'JUPYTER{name}_DIR' for name in ('_CONFIG', '_RUNTIME', 'LAB_SETTINGS', 'LAB_WORKSPACES')]
        options = ['--no-browser', '--allow-root', '--expose-app-in-browser', '--ip=127.0.0.1',
                   f'--port={port}', '--ServerApp.port_retries=0', '--IdentityProvider.token=',
                   f'--notebook-dir={folder}', f'--LabServerApp.app_settings_dir={settings}']
        server = subprocess.Popen(
            [sys.executable, '-m', 'jupyterlab', *options],
            env=os.environ | {p: f'{tmp}/{p}' for p in places},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            url = f'http://127.0.0.1:{port}'
            for _ in range(240):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f'{url}/api', timeout=1)
                    break
                time.sleep(0.25)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)

# The boxes (left, top, width, height) of what an output shows, relative to its own: graphics, texts of plots.
MEASURE = '''e => {
    const own = e.getBoundingClientRect(), rect = x => x.getBoundingClientRect()
    const box = x => [rect(x).left - own.left, rect(x).top - own.top, rect(x).width, rect(x).height]
    const seen = x => rect(x).width > 0 && rect(x).height > 0
    const texts = [...e.querySelectorAll('svg.main-svg text')].filter(t => seen(t) && t.textContent.trim()
        && getComputedStyle(t).opacity > 0 && getComputedStyle(t).fillOpacity > 0)
    return { width: e.clientWidth, inside: e.scrollWidth,
        graphics: [...e.querySelectorAll('img, svg, table, canvas')].filter(seen).map(box),
        texts: texts.map(t => [t.textContent, ...box(t)]) } }'''

def pixels(png):
    "A screenshot as integers (H, W, 3)"
    return np.array(Image.open(io.BytesIO(png)).convert('RGB')).astype(int)

def overlapping(texts, least=6):
    "Pairs of texts whose boxes share more than `least` pixels in both directions: a box has empty rims"
    for i, (a, x, y, w, h) in enumerate(texts):
        for b, x1, y1, w1, h1 in texts[:i]:
            wide, high = min(x + w, x1 + w1) - max(x, x1), min(y + h, y1 + h1) - max(y, y1)
            if min(wide, high) > least: yield a, b

@unittest.skipIf(MISSING, MISSING)
class Figures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        "Each notebook, copied, in a tab of a browser; nothing is executed"
        enter, cls.pages = cls.enterClassContext, {}
        folder = Path(enter(tempfile.TemporaryDirectory()))
        url = enter(lab(folder))
        browser = enter(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        cls.addClassCleanup(browser.close)
        for name in NOTEBOOKS:
            shutil.copy(ROOT/'nbs'/f'{name}.ipynb', folder)
            page = cls.pages[name] = browser.new_page(viewport=WINDOW)
            page.goto(f'{url}/lab/tree/{Path(name).name}.ipynb?reset')
            page.wait_for_selector('.jp-Notebook .jp-OutputArea-output', state='attached', timeout=60_000)
            cells = json.loads((ROOT/'nbs'/f'{name}.ipynb').read_text(encoding='utf-8'))['cells']
            page.wait_for_function(                            # what is out of sight is drawn later
                'n => document.querySelectorAll(".jp-CodeCell:has(.jp-OutputArea-output)").length == n',
                arg=sum(bool(cell.get('outputs')) for cell in cells), timeout=60_000)

    def outputs(self, name, theme):
        "Every output that shows something, scrolled into sight: where it is, its element, its measures"
        page = self.pages[name]
        page.bring_to_front()
        page.evaluate('t => window.jupyterapp.commands.execute("apputils:change-theme", {theme: t})', theme)
        page.wait_for_function('t => document.body.dataset.jpThemeName == t', arg=theme)
        for k, e in enumerate(page.locator('.jp-Notebook .jp-OutputArea-output').element_handles()):
            if not e.query_selector('img, svg, table, canvas'): continue
            e.scroll_into_view_if_needed()
            page.wait_for_timeout(150)
            yield f'{name}, {theme}, output {k}', e, e.evaluate(MEASURE)

    def test_figures_fit(self):
        "Nothing is wider than its cell or outside of it; no text of a plot is cut or lies over another"
        for name in NOTEBOOKS:
            found = list(self.outputs(name, THEMES[0]))
            self.assertGreater(len(found), 3)
            for where, _, m in found:
                with self.subTest(where):
                    self.assertLessEqual(m['inside'], m['width'], 'it scrolls')
                    for x, _, w, _ in m['graphics']:
                        self.assertTrue(x > -1 and x + w < m['width'] + 1, 'a graphic is cut')
                    high = max(y + h for _, y, _, h in m['graphics'])
                    for text, x, y, w, h in m['texts']:
                        fits = x > -1 and y > -1 and x + w < m['width'] + 1 and y + h < high + 1
                        self.assertTrue(fits, f'{text!r} is cut')
                    self.assertEqual(list(overlapping(m['texts'])), [], 'texts overlap')

    def test_printed_tables_do_not_wrap(self):
        "A printed line is one line in the cell"
        texts = self.pages[TABLES].locator('.jp-Notebook .jp-OutputArea-output pre').element_handles()
        for text in texts:
            shown, printed = text.evaluate('''e => [
                Math.round(e.getBoundingClientRect().height/parseFloat(getComputedStyle(e).lineHeight)),
                e.textContent.replace(/\\n$/, "").split("\\n").length]''')
            with self.subTest(text.text_content()[:40]): self.assertEqual(shown, printed)
        self.assertGreater(len(texts), 5)

    def test_no_white_block_in_the_dark(self):
        "What surrounds an image is dark with the page"
        for name in NOTEBOOKS:
            for where, e, _ in self.outputs(name, THEMES[1]):
                for graphic in e.query_selector_all('img, table, svg.main-svg:first-of-type'):
                    if not graphic.is_visible(): continue
                    with self.subTest(where):
                        white = (pixels(graphic.screenshot()) >= NEAR_WHITE).all(-1).mean()
                        self.assertLess(white, MOST_WHITE)

    def test_the_mouse_moves_nothing(self):
        "The first mouse-over makes the figure live: beside the text under the mouse, no pixel changes"
        for theme, name in zip(THEMES, (NOTEBOOKS[-1], NOTEBOOKS[0])):
            page, first = self.pages[name], '.plot-img[src]:visible'     # there before the mouse comes
            found = [o for o in self.outputs(name, theme) if o[1].query_selector(first)]
            self.assertGreater(len(found), 3)
            for where, e, _ in found:
                with self.subTest(where):
                    e.scroll_into_view_if_needed()
                    box = e.bounding_box()
                    before = pixels(page.screenshot(clip=box))
                    for step in range(50):                     # the figure is built after the mouse has come
                        page.mouse.move(box['x'] + 60 + step % 2, box['y'] + 60)
                        page.wait_for_timeout(100)
                        if tip := e.query_selector('.hoverlayer .hovertext'): break
                    self.assertTrue(tip, 'there is no text under the mouse')
                    self.assertEqual(e.bounding_box(), box)
                    during, tip = pixels(page.screenshot(clip=box)), tip.bounding_box()
                    page.mouse.move(5, 5)
                    page.wait_for_timeout(300)
                    after = pixels(page.screenshot(clip=box))
                    x, y = int(tip['x'] - box['x']), int(tip['y'] - box['y'])
                    right, bottom = x + int(tip['width']) + 4, y + int(tip['height']) + 4
                    area = np.s_[max(0, y - 3):bottom, max(0, x - 3):right]
                    during[area] = before[area]
                    for now in (during, after):                # 1 of 255: soft edges of text, rounded
                        self.assertEqual((abs(now - before) > 1).sum(), 0)

if __name__ == '__main__': unittest.main()
