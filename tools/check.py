"""What CI asks: the package is what the notebooks export, the notebooks are clean, text is in the style
(tools/style.py), imports go one way (tools/imports.py), the notebooks run, and tests/ pass.

    python tools/check.py                                   # everything
    python tools/check.py sync clean style imports          # the quick ones
    python tools/check.py test slow gpu                     # also the cells marked `#| slow` and `#| gpu`

Every line is one check, the last line counts them: `N passed, N failed`. A file of tests/ that cannot run
on this machine is neither: the line before the last names it, with the reason. The tree is not written to.
"""
import json, os, re, shutil, subprocess, sys, sysconfig, tempfile, time
from contextlib import contextmanager, suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path

from fastcore.xdg import xdg_cache_home
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import nb_test_cells

from imports import imports
from style import style

WORKERS, LIMIT = 2, 30*60      # processes at a time, seconds for each

os.chdir(Path(__file__).parents[1])
os.environ.update(             # of processes started here: offline, one thread, an allocator that keeps pages
    HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1',
    MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000', MALLOC_TOP_PAD_='268435456',
    PATH=sysconfig.get_path('scripts') + os.pathsep + os.environ['PATH'])
cfg = get_config()
lib, nbs = (p.relative_to(cfg.config_path) for p in (cfg.lib_path, cfg.nbs_path))
notebooks = sorted(nbglob(nbs, as_path=True)) if nbs.exists() else []
optional = cfg.tst_flags.split()


def run(command, **kw):
    "Run `command` in a process of its own: did it pass, how long did it take, what did it say?"
    start = time.time()
    with tempfile.TemporaryFile('w+', errors='replace') as out:      # a grandchild could hold a pipe open
        try: code = subprocess.run(command, stdout=out, stderr=out, timeout=LIMIT, **kw).returncode
        except subprocess.TimeoutExpired: code = f'none after {LIMIT} seconds'
        out.seek(0); said = out.read().strip()
    return code == 0, time.time() - start, said if code == 0 else f'{said}\nexit status: {code}'

@contextmanager
def after(command):
    "A copy of what nbdev reads (options, notebooks, the modules written by hand), after `command` ran in it"
    with tempfile.TemporaryDirectory() as tmp:
        new = Path(tmp)
        for p in [Path('pyproject.toml'), lib/'__init__.py', lib/'__main__.py', *notebooks]:
            (new/p).parent.mkdir(parents=True, exist_ok=True); shutil.copy(p, new/p)
        ok, _, said = run([command], cwd=new)
        if not ok: raise RuntimeError(f'{command} failed\n{said}')
        yield new

def home(module):
    "The module that the notebook of `module` should export: 02_data/02_terrarium.ipynb -> data/terrarium.py"
    source = re.search(r'File to edit: (\S+)\.ipynb', module.read_text(encoding='utf-8'))
    if not source: return module
    nb = Path(os.path.normpath(module.parent/source[1])).relative_to(nbs)
    return lib.joinpath(*(re.sub(r'^\d+[a-z]?_', '', part) for part in nb.parts)).with_suffix('.py')

def sync():
    "Modules that are not what the notebooks export, or not where their notebook is"
    with after('nbdev-export') as new:
        for p in sorted({p.relative_to(r) for r in (Path(), new) for p in (r/lib).rglob('*.py')}):
            if not (new/p).exists(): yield f'{p}: no notebook exports it'
            elif not p.exists(): yield f'{p}: not exported yet, run nbdev-export'
            elif p.read_bytes() != (new/p).read_bytes(): yield f'{p}: edited, or older than its notebook'
            elif home(p) != p: yield f'{p}: its notebook should export {home(p)}'

def clean():
    "Notebooks that `nbdev-clean` would change"
    with after('nbdev-clean') as new:
        for p in notebooks:
            if p.read_bytes() != (new/p).read_bytes(): yield f'{p}: not clean, run nbdev-clean'

def commands(flags):
    "What to run: each notebook from its top, each file of tests/; its path, its size in words, its command"
    skip = set(optional) - set(flags)
    for p in notebooks:
        try: cells = len(nb_test_cells(p, skip))
        except Exception: cells = 'no'           # not a notebook: the command will say why
        command = ['nbdev-test', str(p), '--n-workers', '0', '--flags', ' '.join(flags)]
        yield str(p), f'{cells:>4} cells', command
    for p in sorted(Path('tests').glob('test_*.py')):
        command = [sys.executable, '-m', 'unittest', 'discover', '-v', '-s', 'tests', '-p', p.name]
        yield str(p), '  unittest', command

def test(flags):
    "Run all `commands`, the slowest of last time first; yields (path, size, passed, seconds, output) of each"
    memory, seconds = xdg_cache_home()/'mrovseg_nb'/'seconds.json', {}
    with suppress(OSError, ValueError): seconds = json.loads(memory.read_text())
    todo = sorted(commands(flags), key=lambda c: -seconds.get(c[0], LIMIT))
    with ThreadPool(WORKERS) as pool:
        for path, size, (ok, secs, said) in pool.imap_unordered(lambda c: (*c[:2], run(c[2])), todo):
            seconds[path] = secs
            yield path, size, ok and 'Ran 0 tests' not in said, secs, said
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True); memory.write_text(json.dumps(seconds))

def why_skipped(said):
    "The reason, where unittest skipped all tests of a file; else nothing"
    if not re.search(r'^(OK|NO TESTS RAN) \(skipped=', said, re.M) or '... ok\n' in said: return ''
    return ', '.join(dict.fromkeys(re.findall(r"skipped '(.*)'", said)))

def main(args):
    "Run the steps and flags named in `args`; whether all is well"
    looks = dict(sync=sync, clean=clean, style=lambda: style(notebooks), imports=lambda: imports(lib))
    flags = [a for a in args if a in optional]
    steps = [a for a in args if a not in flags] or [*looks, 'test']
    if wrong := set(steps) - {*looks, 'test'}: sys.exit(f'unknown: {", ".join(wrong)}\n{__doc__}')
    passed, failed, skipped = [], [], []
    def line(ok, name, text, said=''):
        (passed if ok else failed).append(name)
        print(f"{'ok' if ok else 'FAIL':4} {text}" + ('' if ok or not said else f'\n{said}'), flush=True)
    if not notebooks: line(False, 'notebooks', f'there are no notebooks under {nbs}/')
    for step, look in looks.items():
        if step not in steps: continue
        try: wrong = list(look())
        except RuntimeError as e: wrong = [str(e)]
        for w in wrong: line(False, step, f'{step}: {w}')
        if not wrong: line(True, step, step)
    if 'test' in steps:
        for path, size, ok, secs, said in test(flags):
            reason = why_skipped(said)
            if reason: skipped.append(f'{path} ({reason})')
            else: line(ok, path, f'{secs:6.1f}s {size}  {path}', said)
    if skipped: print('skipped:', ', '.join(skipped))
    if failed: print('failed:', ', '.join(dict.fromkeys(failed)))
    print(f'{len(passed)} passed, {len(failed)} failed')
    return not failed

if __name__ == '__main__': sys.exit(not main(sys.argv[1:]))
