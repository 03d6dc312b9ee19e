"""Stored numbers that must not change when code is moved.

    python -m unittest discover -s tests -p test_golden.py
    python tests/test_golden.py write    # stores the numbers of today's code in tests/golden.json
"""
import base64, itertools, json, math, os, sys, tempfile, unittest, zlib
from dataclasses import asdict, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from accelerate.utils import set_seed

from mrovseg_nb.benchmarks.benchmarks import load_benchmark
from mrovseg_nb.benchmarks.miniatures import write_miniature
from mrovseg_nb.basics.files import shipped
from mrovseg_nb.data.terrarium import (
    CLASSES, THINGS, caption_text, visible_names, scene, split_scene, terrarium)
from mrovseg_nb.data.transforms import san_augmentation
from mrovseg_nb.data.vocabulary import parse_classes
from mrovseg_nb.study.table_results import order_agreement, record_files, table_results
from mrovseg_nb.study.tables import ABLATIONS, TABLES
from mrovseg_nb.evaluation.evaluate import evaluate
from mrovseg_nb.mrovseg.model import PRESETS, preset
from mrovseg_nb.clip.model_files import trained_parameters
from mrovseg_nb.methods.registry import build_model, create_model, load_model
from mrovseg_nb.training.recipes import RECIPES, naming_fields, recipe
from mrovseg_nb.training.setup import resolve_recipe
from mrovseg_nb.training.batches import MicroBatches, micro_batch_loader, training_data
from mrovseg_nb.training.trainer import Trainer

FILE = Path(__file__).with_name('golden.json')

def digest(*parts):
    "Of bytes, text and arrays, with their shapes and types"
    h = sha256()
    for p in parts:
        if isinstance(p, np.ndarray):
            h.update(f'{p.dtype} {p.shape}'.encode())
            p = np.ascontiguousarray(p).tobytes()
        h.update(p.encode() if isinstance(p, str) else p)
    return h.hexdigest()[:32]

# more than float32 has
def digits(x): return [float(f'{v:.9g}') for v in np.asarray(x, np.float64).ravel()]

def plain(x): return json.loads(json.dumps(x))

# ----------------------------------------------------------------------------------------------------- scenes

SCENES = [(split, i, size)
          for split, numbers in (('train', (0, 1, 17, 99_999)), ('val', (0, 1, 2, 100, 255)),
                                 ('demo', (0, 3)))
          for i, size in zip(numbers, (96, 48, (64, 112), (120, 72), 192))]

def drawn():
    "Scene -> digest of its maps, and its caption"
    out = {}
    for split, i, size in SCENES:
        s = split_scene(split, i, size)
        out[f'{split} {i} {size}'] = [digest(s.image, s.labels, s.instances),
                                      caption_text(*visible_names(s.labels, s.things))]
    for seed, how in enumerate((dict(count=(0, 0)), dict(only=7, count=(1, 1), scale=(0.35, 0.98)),
                                dict(tiers=('novel',), shift=2),
                                dict(tiers=('base', 'novel'), shift=1, grounds=('water', 'snow')),
                                dict(grounds=('rock',)), dict(tiers=('unseen',)),
                                dict(count=(6, 6)), dict(scale=(0.1, 0.2)), dict(size=(31, 67)))):
        s = scene([40, seed], **{'size': 80, **how})
        caption = caption_text(*visible_names(s.labels, s.things), on=seed % 2 > 0)
        out[f'40 {seed} {sorted(how.items())}'] = [digest(s.image, s.labels, s.instances), caption]
    return out

# ------------------------------------------------------------------------------------- the stream of training

# recipe, rank, world, workers
STREAMS = [('terrarium', 0, 1, 0), ('terrarium', 1, 2, 0), ('ablation', 0, 1, 0), ('ablation', 1, 2, 2)]

def parts_of(name, rank, world, workers, n=8):
    "ids and a digest of images and labels, of the first parts of a process"
    r = recipe(name)
    data, size = training_data(r.data, r.augment.crop), r.batch//world//r.accumulate
    parts = MicroBatches(data, r.augment, size, r.lanes, r.seed, rank, world)
    found = list(itertools.islice(micro_batch_loader(parts, workers), n))
    return [[' '.join(p['ids']), p['lane'], digest(p['images'].numpy(), p['labels'].numpy())] for p in found]

def streamed(): return {' '.join(map(str, s)): parts_of(*s) for s in STREAMS}

# -------------------------------------------------------------------------------- what the shipped models say

SIZES = [96, 96, 96, 96, 96, (96, 128), (144, 112), 192]

@cache
def scenes(): return [split_scene('val', i, size) for i, size in enumerate(SIZES)]

MODELS = {
    'mrovseg-terrarium': lambda: load_model(shipped('models', 'mrovseg-terrarium')),
    'mrovseg-terrarium-p0': lambda: load_model(shipped('models', 'mrovseg-terrarium-p0')),
    'maskclip, half': lambda: create_model('maskclip-terrarium', crop=48, window=0),
    'maskclip, slices': lambda: create_model('maskclip-terrarium', stride=0)}

def packed(a): return base64.b64encode(zlib.compress(np.ascontiguousarray(a, np.uint8).tobytes(), 9)).decode()

def unpacked(text, shape): return np.frombuffer(zlib.decompress(base64.b64decode(text)),
                                                np.uint8).reshape(shape)

@cache
def said(name):
    "Scores (K, H, W) of each scene, and the model"
    model, vocabulary = MODELS[name](), parse_classes(CLASSES)
    return model.predict([s.image for s in scenes()], vocabulary), model, vocabulary

def places(shape, n=64): return np.random.default_rng(7).integers(0, math.prod(shape), n)

def scored():
    "Model -> best class of every pixel, 64 scores of each scene, mean and deviation of each class"
    out = {}
    for name in MODELS:
        scores, _, _ = said(name)
        per_class = np.concatenate([s.reshape(len(s), -1) for s in scores], 1).astype(np.float64)
        out[name] = dict(best=[packed(s.argmax(0)) for s in scores],
                         some=[digits(s.ravel()[places(s.shape)]) for s in scores],
                         mean=digits(per_class.mean(1)), deviation=digits(per_class.std(1)))
    return out

def segmented():
    "Model -> segments of each scene: label, area, score; and the map of their numbers"
    out = {}
    for name in ('mrovseg-terrarium', 'mrovseg-terrarium-p0'):
        _, model, vocabulary = said(name)
        found = model.panoptic([s.image for s in scenes()], vocabulary, len(THINGS))
        out[name] = [[[s['id'], s['label'], s['area'], digits(s['score'])[0]]
                      for s in segments] + [packed(ids)] for ids, segments in found]
    return out

def evaluated():
    "All numbers of an evaluation of 12 scenes"
    def numbers(x):
        if isinstance(x, dict): return {k: numbers(v) for k, v in x.items()}
        return digits(x) if isinstance(x, np.ndarray) else x
    _, model, _ = said('mrovseg-terrarium')
    data = replace(terrarium('val', 12).in_memory(), expected=None)
    found = evaluate(model, data, also=('boundary', 'sizes', 'oracles', 'panoptic'))
    del found['confusion']
    return numbers(found)

# ------------------------------------------------------------------------------------------ steps of training

def miniature(name, root):
    "Three pictures in a benchmark's files, as its recipe would read them, with one template a word"
    write_miniature(name, root, split='train')
    data = load_benchmark(name, 'train', root=root, allow_partial=True)
    return replace(data, vocabulary=replace(data.vocabulary, templates='single'), on_error='skip')

def stepped(config, r, data=None, steps=2):
    "Losses, norms and rates of the first steps, and what the weights are then"
    r = replace(r, workers=0, precision='no')
    set_seed(r.seed)
    t = Trainer(build_model(config), training_data(r.data, r.augment.crop) if data is None else data, r)
    curve = [{k: digits(v)[0] for k, v in now.items()}
             for now in itertools.islice(t.steps(progress=False), steps)]
    weights = {n: p.detach().double().numpy() for n, p in trained_parameters(t.finish(None)).items()}
    parts = {}
    for n, w in weights.items(): parts.setdefault('.'.join(n.split('.')[:2]), []).append(w.ravel())
    parts = {n: np.concatenate(ws) for n, ws in parts.items()}
    return dict(curve=curve, some={n: digits(w[places(w.shape, 8)]) for n, w in parts.items()},
                length={n: digits(np.linalg.norm(w))[0] for n, w in parts.items()},
                names=digest(*(f'{n} {w.shape}\n' for n, w in weights.items())))

def learned():
    "Recipe -> two steps; those for COCO with the small model, small pictures and few points"
    out = {name: stepped(*resolve_recipe(name)) for name in ('terrarium', 'ablation')}
    objects = ['data=terrarium-panoptic', 'batch=2', 'ema=0.9', 'accumulate=2']
    out['terrarium-panoptic'] = stepped(*resolve_recipe('ablation', objects))
    decay = ['batch=2', 'weight_decay=20', 'warmup=0', 'clip_norm=0.01']
    out['ablation, strong decay'] = stepped(*resolve_recipe('ablation', decay))
    for name in ('coco-stuff-vit-b', 'coco-panoptic-vit-b'):
        r = replace(recipe(name), augment=san_augmentation(96), batch=2, lanes=1)
        with tempfile.TemporaryDirectory() as root, mock.patch.dict(os.environ, MROVSEG_CACHE=root):
            out[name] = stepped(replace(preset('terrarium'), train_positions=True),
                                replace(r, loss=replace(r.loss, points=512)), miniature(r.data, Path(root)))
    return out

# --------------------------------------------------------------------------------------- settings and records

def settings(): return plain(dict(presets={n: asdict(c) for n, c in PRESETS.items()},
                                  recipes={n: naming_fields(asdict(r)) for n, r in RECIPES.items()}))

def tabulated():
    "Table of MROVSeg -> its rows (records, done, mean and error of each metric), agreement with the paper"
    out = {}
    for number in ABLATIONS:
        rows = table_results(number)
        out[number] = [[r['name'], len(r['records']), r['done'], r['mean'], r['error']]
                       for r in rows] + [order_agreement(rows)]
    records = {key: json.loads(path.read_text()) for key, path in record_files().items()}
    return plain(out | dict(keys=sorted(key for key, r in records.items()
                                        if r.get('method', 'mrovseg') == 'mrovseg')))

WHAT = dict(drawn=drawn, streamed=streamed, scored=scored, segmented=segmented, evaluated=evaluated,
            learned=learned, settings=settings, tabulated=tabulated)

def write():
    lines = (f' {json.dumps(k)}: {json.dumps(f())}' for k, f in WHAT.items())
    FILE.write_text('{\n' + ',\n'.join(lines) + '\n}\n')


class Golden(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.golden = json.loads(FILE.read_text())

    def close(self, found, stored, relative, absolute, at=''):
        "Everything is equal, and numbers that are not whole are close"
        if isinstance(stored, dict):
            self.assertEqual(list(found), list(stored), at)
            for k in stored: self.close(found[k], stored[k], relative, absolute, f'{at} {k}')
        elif isinstance(stored, list) and not isinstance(found, str):
            self.assertEqual(len(found), len(stored), at)
            for i, (f, s) in enumerate(zip(found, stored)): self.close(f, s, relative, absolute, f'{at} {i}')
        elif isinstance(stored, float):
            if math.isnan(stored): self.assertTrue(math.isnan(found), at)
            else: self.assertLessEqual(abs(found - stored), absolute + relative*abs(stored),
                                       f'{at}: {found} and not {stored}')
        else: self.assertEqual(found, stored, at)

    def test_scenes(self):
        self.assertEqual(len(self.golden['drawn']), 20)
        self.close(drawn(), self.golden['drawn'], 0, 0)

    def test_streams(self):
        self.close(streamed(), self.golden['streamed'], 0, 0)
        self.assertEqual(parts_of('ablation', 1, 2, 0), self.golden['streamed']['ablation 1 2 2'],
                         'workers change what is learned from')

    def test_scores(self):
        "Scores are the same to 1e-6, and the best class is another one only where two are that close"
        found, stored = scored(), self.golden['scored']
        for name in MODELS:
            with self.subTest(name):
                for s, text in zip(said(name)[0], stored[name]['best']):
                    then = unpacked(text, s.shape[1:])
                    self.assertLess((s.max(0) - np.take_along_axis(s, then[None].astype(int), 0)[0]).max(),
                                    2e-6)
                self.close(*({k: v for k, v in x[name].items() if k != 'best'} for x in (found, stored)),
                           1e-6, 1e-6)

    def test_segments(self): self.close(segmented(), self.golden['segmented'], 1e-6, 1e-6)

    def test_evaluation(self): self.close(evaluated(), self.golden['evaluated'], 1e-9, 0)

    def test_steps(self): self.close(learned(), self.golden['learned'], 1e-5, 1e-6)

    def test_mixed_precision(self):
        "In bf16 the loss of a step is near that of float32, and not the same"
        config, r = resolve_recipe('ablation')
        loss = {}
        for precision in ('no', 'bf16'):
            set_seed(r.seed)
            t = Trainer(build_model(config), training_data(r.data, r.augment.crop),
                        replace(r, precision=precision))
            loss[precision] = next(iter(t.steps(progress=False)))['total']
        self.assertNotEqual(loss['no'], loss['bf16'])
        self.assertAlmostEqual(loss['bf16'], loss['no'], delta=0.02*loss['no'])

    def test_settings(self):
        "Presets and recipes are as they were; there may be new ones"
        now = settings()
        for kind, golden in self.golden['settings'].items():
            for name, then in golden.items():
                if kind == 'recipes': then = plain(naming_fields(then))
                self.assertEqual(now[kind].get(name), then, name)

    def test_tables(self):
        "Every record is found by its row"
        found = tabulated()
        self.close(found, self.golden['tabulated'], 1e-9, 1e-9)
        used = {r['key'] for number in TABLES for row in table_results(number) for r in row['records']}
        shipped_keys = {json.loads(p.read_text())['key']
                        for p in (shipped('results')/'ablation').glob('*.seed*.json')}
        self.assertEqual(set(record_files()) - used, set(), 'records that no row uses')
        self.assertLessEqual(shipped_keys, set(record_files()))
        self.assertLessEqual(set(self.golden['tabulated']['keys']), set(found['keys']))


if __name__ == '__main__':
    if sys.argv[1:] == ['write']: write()
    else: unittest.main()
