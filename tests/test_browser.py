"""Stored figures in a real JupyterLab, in a window of 1300 pixels with the list of files open, light and dark.

It needs `pip install playwright` and a Chromium on the PATH (Debian: `apt-get install chromium`), or CHROMIUM=path/of/it;
without them every test is skipped and tools/check.py says so.
"""
import contextlib, io, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, unittest, urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = '00_tutorials/01_mrovseg_on_terrarium', '00_tutorials/05_ablations', '10_app/02_segmenter'
WINDOW = dict(width=1300, height=1000)
THEMES = 'JupyterLab Light', 'JupyterLab Dark'
NEAR_WHITE, MOST_WHITE = 245, 0.1     # of 255, in all channels; share of the pixels of a graphic: images themselves have some
NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'chrome'
CHROMIUM = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
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
        no_news = {'@jupyterlab/apputils-extension:notification': dict(fetchNews='false', checkForUpdates=False)}
        (settings/'overrides.json').write_text(json.dumps(no_news))
        places = 'JUPYTER_CONFIG_DIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTERLAB_SETTINGS_DIR', 'JUPYTERLAB_WORKSPACES_DIR'
        command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}',
                   '--ServerApp.port_retries=0', '--IdentityProvider.token=', f'--notebook-dir={folder}',
                   '--expose-app-in-browser', f'--LabServerApp.app_settings_dir={settings}']
        server = subprocess.Popen(command, env=os.environ | {p: f'{tmp}/{p}' for p in places}, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
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

# What an output shows: the boxes of its graphics and, of a plotly figure, of its texts; relative to its own box.
MEASURE = '''e => {
    const own = e.getBoundingClientRect()
    const box = x => { const r = x.getBoundingClientRect(); return [r.left - own.left, r.top - own.top, r.width, r.height] }
    const seen = x => { const r = x.getBoundingClientRect(); return r.width > 0 && r.height > 0 }
    const texts = [...e.querySelectorAll('svg.main-svg text')].filter(t => seen(t) && t.textContent.trim()
        && !t.closest('.hoverlayer') && getComputedStyle(t).opacity > 0 && getComputedStyle(t).fillOpacity > 0)
    return { width: e.clientWidth, inside: e.scrollWidth, height: own.height,
        graphics: [...e.querySelectorAll('img, svg, table, canvas')].filter(seen).map(box),
        texts: texts.map(t => [t.textContent, ...box(t)]) } }'''

def pixels(png):
    "A screenshot as integers (H, W, 3)"
    return np.array(Image.open(io.BytesIO(png)).convert('RGB')).astype(int)

def overlapping(texts, least=6):
    "Pairs of texts whose boxes share more than `least` pixels in both directions: a box has empty rims"
    for i, (a, x, y, w, h) in enumerate(texts):
        for b, x1, y1, w1, h1 in texts[:i]:
            if min(x + w, x1 + w1) - max(x, x1) > least and min(y + h, y1 + h1) - max(y, y1) > least: yield a, b

@unittest.skipIf(MISSING, MISSING)
class Figures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        "The notebooks, copied, in a browser; nothing is executed"
        enter = cls.enterClassContext
        folder = Path(enter(tempfile.TemporaryDirectory()))
        for name in NOTEBOOKS: shutil.copy(ROOT/'nbs'/f'{name}.ipynb', folder)
        cls.url = enter(lab(folder))
        browser = enter(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        cls.addClassCleanup(browser.close)
        cls.pages = {}
        for name in NOTEBOOKS:
            page = cls.pages[name] = browser.new_page(viewport=WINDOW)
            page.goto(f'{cls.url}/lab/tree/{Path(name).name}.ipynb?reset')
            page.wait_for_selector('.jp-Notebook .jp-OutputArea-output', state='attached', timeout=60_000)

    def outputs(self, name, theme):
        "Every output of a notebook that shows something, in sight: its number, its element, its measures"
        page = self.pages[name]
        page.bring_to_front()
        page.evaluate('t => window.jupyterapp.commands.execute("apputils:change-theme", {theme: t})', theme)
        page.wait_for_function('t => document.body.dataset.jpThemeName == t', arg=theme)
        page.evaluate('document.fonts.ready')
        for k, e in enumerate(page.locator('.jp-Notebook .jp-OutputArea-output').element_handles()):
            if not e.query_selector('img, svg, table, canvas'): continue
            e.scroll_into_view_if_needed()
            page.wait_for_timeout(150)
            yield f'{name}, {theme}, output {k}', e, e.evaluate(MEASURE)

    def test_figures_fit(self):
        "Nothing is wider than the cell or outside of it, and in a plot no text is cut or lies over another"
        for name in NOTEBOOKS:
            for where, _, m in self.outputs(name, THEMES[0]):
                with self.subTest(where):
                    self.assertLessEqual(m['inside'], m['width'], 'scrolls')
                    for x, y, w, h in m['graphics']:
                        self.assertTrue(x > -1 and x + w < m['width'] + 1 and y + h < m['height'] + 1, f'cut: {x, y, w, h}')
                    for text, x, y, w, h in m['texts']:
                        cut = x < -1 or y < -1 or x + w > m['width'] + 1 or y + h > m['height'] + 1
                        self.assertFalse(cut, f'{text!r} is cut: {x, y, w, h}')
                    self.assertEqual(list(overlapping(m['texts'])), [], 'texts overlap')

    def test_no_white_block_in_the_dark(self):
        "What surrounds an image is dark with the page"
        for name in NOTEBOOKS:
            for where, e, m in self.outputs(name, THEMES[1]):
                for g in e.query_selector_all('img, table, svg.main-svg:first-of-type'):
                    if not g.is_visible(): continue
                    with self.subTest(where):
                        white = (pixels(g.screenshot()) >= NEAR_WHITE).all(-1).mean()
                        self.assertLess(white, MOST_WHITE)

    def test_the_mouse_moves_nothing(self):
        "The first mouse-over builds the figure: beside the text under the mouse, no pixel changes"
        for theme in THEMES:
            page, seen = self.pages[NOTEBOOKS[-1]], 0
            for where, e, _ in self.outputs(NOTEBOOKS[-1], theme):
                if not e.query_selector('.plot-img'): continue
                with self.subTest(where):
                    box = e.bounding_box()
                    before = pixels(page.screenshot(clip=box))
                    for step in range(40):                     # the figure is built after the mouse has come
                        page.mouse.move(box['x'] + 60 + step % 2, box['y'] + 60)
                        page.wait_for_timeout(100)
                        if tip := e.query_selector('.hoverlayer .hovertext'): break
                    self.assertEqual(e.bounding_box(), box)
                    during, tip = pixels(page.screenshot(clip=box)), tip.bounding_box()
                    page.mouse.move(5, 5)
                    page.wait_for_timeout(300)
                    after = pixels(page.screenshot(clip=box))
                    x, y = int(tip['x'] - box['x']), int(tip['y'] - box['y'])
                    area = np.s_[max(0, y - 3):y + int(tip['height']) + 4, max(0, x - 3):x + int(tip['width']) + 4]
                    during[area] = before[area]
                    self.assertEqual(((before != during).sum(), (before != after).sum()), (0, 0))
                    seen += 1
            self.assertTrue(seen)

if __name__ == '__main__': unittest.main()
