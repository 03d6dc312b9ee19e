"""README.md says nothing that does not work: each of its Python snippets runs as a script of its own, in the
order and in the folder of a reader; each of its `mrovseg` lines is one that the parser takes, and those that
take seconds are run; its links lead to files.

    python -m unittest tests.test_readme
"""
import json, math, os, re, shlex, shutil, subprocess, sys, tempfile, unittest
from pathlib import Path

import numpy as np
from PIL import Image

from mrovseg_nb.app.arguments import parse_arguments
from mrovseg_nb.app.cli import parser
from mrovseg_nb.basics.records import read_record
from mrovseg_nb.clip.published_clips import published_weights
from mrovseg_nb.clip.weights import clip_shapes

REPO = Path(__file__).parents[1]
README = (REPO/'README.md').read_text()
SNIPPETS = re.findall(r'^```(\w+)\n(.*?)^```$', README, re.M | re.S)    # language, text

# Commands that are only parsed, by their first words, and why. The ways of own data are walked by test_cli.
ONLY_PARSED = {
    'mrovseg demo': 'measures three models for minutes; the notebook 10_app/08_demo runs it',
    'mrovseg train': 'takes minutes at the settings that README shows; test_cli trains with small ones',
    'mrovseg evaluate': 'needs the run that was trained before, or a benchmark on the disk; in test_cli',
    'mrovseg segment photo.png': 'needs the run that was trained before; in test_cli',
    'mrovseg segment images': 'needs the run that was trained before; in test_cli',
    'mrovseg ablate --table 5': 'trains the missing rows of a table',
    'mrovseg convert ade20k-847': 'needs the archives of a benchmark'}
# Other programs, which are not tested here, and why.
OTHERS = {
    'pip install': 'needs a network; .ci/run runs this line', 'python tools/check.py': 'runs this test',
    'jupyter lab': 'is a server'}


def write_zeros(path:Path, name:str) -> None:
    "A file of weights for a CLIP that are all zero: 300 MB that take no place on the disk."
    header, end = {}, 0
    for key, shape in clip_shapes(name).items():
        start, end = end, end + 2*math.prod(shape)
        header[key] = dict(dtype='F16', shape=list(shape), data_offsets=[start, end])
    text = json.dumps(header).encode()
    with open(path, 'wb') as f:
        f.write(len(text).to_bytes(8, 'little') + text)
        f.truncate(8 + len(text) + end)


def script_folder(folder:Path) -> None:
    "What a reader has: the samples of a clone, a photograph, a CLIP, and own images with masks and classes."
    shutil.copytree(REPO/'data'/'samples', folder/'data'/'samples')
    shutil.copy(REPO/'data'/'samples'/'cat.jpg', folder/'photo.jpg')
    repo = published_weights('ViT-B-16-quickgelu', 'openai').repo
    repo = folder/'hub'/f'models--{repo.replace("/", "--")}'
    for part in ('refs', 'snapshots/0123abcd'): (repo/part).mkdir(parents=True)
    (repo/'refs'/'main').write_text('0123abcd')
    write_zeros(folder/'clip.safetensors', 'ViT-B-16-quickgelu')
    os.link(folder/'clip.safetensors', repo/'snapshots'/'0123abcd'/'open_clip_model.safetensors')
    rng = np.random.default_rng(0)
    for name in ('images', 'masks'): (folder/name).mkdir()
    for i in range(8):
        mask = np.zeros(rng.integers(40, 90, 2), np.uint8)
        mask[:20], mask[30:, :25] = 1, 2
        image = np.array([[90, 90, 95], [190, 70, 40], [30, 110, 40]])[mask]
        image += rng.integers(0, 20, image.shape)
        Image.fromarray(image.astype(np.uint8)).save(folder/f'images/{i}.png')
        Image.fromarray(mask).save(folder/f'masks/{i}.png')
    (folder/'classes.txt').write_text('road\nhouse, building\ntree\n')


def shell_lines() -> list[list[str]]: # the words of each command, comments left out
    "All commands of the sh snippets."
    lines = [line for language, text in SNIPPETS if language == 'sh' for line in text.splitlines()]
    return [shlex.split(part, comments=True) for line in lines for part in line.split('&&')]


class ReadmeTest(unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.folder = Path(tmp.name)
        script_folder(self.folder)
        self.environment = os.environ | dict(PYTHONPATH=str(REPO), HF_HUB_OFFLINE='1',
                                             HF_HUB_CACHE=str(self.folder/'hub'))

    def run_here(self, *argv:str) -> str: # what it printed
        done = subprocess.run([sys.executable, *argv], cwd=self.folder, env=self.environment, text=True,
                              capture_output=True, timeout=300)
        self.assertEqual(done.returncode, 0, f'{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}')
        return done.stdout

    def test_python_snippets_run_as_scripts(self):
        scripts = [text for language, text in SNIPPETS if language == 'python']
        self.assertGreater(len(scripts), 5)
        printed = ''
        for i, text in enumerate(scripts):
            script = self.folder/f'snippet_{i}.py'
            script.write_text(text)
            with self.subTest(snippet=text.strip().splitlines()[-1]): printed += self.run_here(script.name)
        self.assertIn('What the old classes lost', printed)
        for written in ('photo_labels.png', 'pond_labels.png', 'runs/mine/record.json',
                        'runs/try/record.json'):
            self.assertTrue((self.folder/written).is_file(), written)

    def test_shell_lines(self):
        ran = []
        for words in filter(None, shell_lines()):
            line = shlex.join(words)
            with self.subTest(line=line):
                if words[0] != 'mrovseg':
                    self.assertTrue(any(line.startswith(known) for known in OTHERS), line)
                    continue
                try: parse_arguments(*parser(), words[1:])
                except (ValueError, SystemExit) as e: self.fail(e)
                if any(line.startswith(known) for known in ONLY_PARSED): continue
                ran.append(line)
                self.assertTrue(self.run_here('-m', 'mrovseg_nb', *words[1:]), 'nothing was printed')
        self.assertGreater(len(ran), 3)
        self.assertTrue((self.folder/'photo_picture.png').is_file())
        for part in ('train', 'val'):
            self.assertTrue([*(self.folder/'shards').glob(f'{part}/*.parquet')], part)

    def test_table_shows_the_record(self):
        "The table has the recorded numbers of both splits, the text below it those that it names."
        record, tiers = read_record('terrarium'), ('base', 'novel', 'unseen', 'stuff', 'all')
        shown = README[README.index('## Measured'):README.index('## Not yet')]
        rows = [[part.strip() for part in line.strip('|').split('|')] for line in shown.splitlines()
                if line.startswith('| ')][2:]
        expected = []
        for split, models in dict(test=record['test'], val=record['results']).items():
            expected.append([f'**{split}**', *['']*5])
            expected += [[name, *(f'{row[t]:.1f}' for t in tiers)] for name, row in models.items()]
        self.assertEqual(rows, expected)
        self.assertIn(f'{record["scenes"]:,} held-out scenes', shown)
        low, high = record['bootstrap']['test']['MROVSeg']['interval']['all']
        self.assertIn(f"interval over scenes of MROVSeg's *all* is {100*low:.1f} to {100*high:.1f}", shown)
        former, again = record['earlier'][-1]['results']['MROVSeg'], read_record('terrarium-again')['results']
        self.assertIn('(base {base:.1f}, novel {novel:.1f}, all {all:.1f})'.format(**former), shown)
        self.assertIn('reached base {base:.1f}, all {all:.1f} (`data/results/'.format(**again), shown)

    def test_goals_are_met(self):
        "What README says of the goals holds in the record, on both splits."
        record = read_record('terrarium')
        for split in ('test', 'results'):
            with self.subTest(split=split):
                ours, without = (record[split][name] for name in ('MROVSeg', 'MROVSeg, p = 0'))
                untrained = max(row['all'] for name, row in record[split].items() if 'MaskCLIP' in name)
                self.assertGreaterEqual(ours['base'], 60)
                self.assertGreaterEqual(ours['stuff'], 95)
                self.assertGreaterEqual(ours['novel'], 0.6*ours['base'])
                self.assertGreaterEqual(ours['all'], max(untrained + 20, without['all'] + 5))

    def test_first_screen_is_a_photograph(self):
        "What to type for a photograph is the first command of all."
        self.assertEqual(SNIPPETS[0][1].split()[:3], ['mrovseg', 'segment', 'photo.jpg'])
        self.assertLess(README[:README.index(SNIPPETS[0][1])].count('\n'), 15)

    def test_links_lead_to_files(self):
        links = re.findall(r'\]\((?!https?:)([^)#]+)', README)
        self.assertEqual([link for link in links if not (REPO/link).exists()], [])
        self.assertGreater(len(links), 5)


if __name__ == '__main__': unittest.main()
