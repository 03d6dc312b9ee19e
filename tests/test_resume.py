"""A run that is killed with SIGKILL at random moments, half of them inside a save, and resumed ends with the
weights of one that was not: a run of each method that is trained.

    python -m unittest tests.test_resume     # 3 kills of MROVSeg, 2 of each other method, as in CI
    python tests/test_resume.py 20 sed       # 20 runs, each killed once or twice; writes resume-sed.json
"""
import json, os, random, signal, subprocess, sys, tempfile, time, unittest
from hashlib import sha256
from pathlib import Path

STEPS = dict(mrovseg=16, other=8)
SMALLER = dict(                                   # changes of the preset `terrarium` of a method
    mrovseg=dict(blocks=2, queries=8, fusion_layers=(0, 2, 3, 4)),
    sed=dict(drop_path=0.3, dropout=0.3, channels=(16, 16, 8, 8), skip_channels=(4, 4, 4)))
OTHERS = dict(sed=dict(schedule='cosine', clip_lr=0.1, precision='no'))       # fields of the recipe

def train_here(method, folder):
    "What the killed process does: a small run, saved after every step and validated after every third."
    import torch
    from dataclasses import replace
    from mrovseg_nb.data.terrarium import terrarium
    from mrovseg_nb.evaluation.evaluate import evaluate
    from mrovseg_nb.methods.registry import model_config
    from mrovseg_nb.training.losses import LossWeights
    from mrovseg_nb.training.recipes import Recipe
    from mrovseg_nb.training.trainer import train_model
    from mrovseg_nb.training.validation import Validation
    torch.set_num_threads(1)
    scenes = terrarium('val', 2, 96).in_memory()
    def measure(model): return dict(miou=evaluate(model, scenes)['miou_present'])
    config = replace(model_config(f'{method}-terrarium'), **SMALLER.get(method, {}))
    train_model(config,
          Recipe(steps=STEPS.get(method, STEPS['other']), batch=4, accumulate=2, warmup=4, ema=0.9, lanes=2,
                 loss=LossWeights(points=128, ignored_as_none=True), **OTHERS.get(method, {})), folder,
          resume=True, every=1, progress=False, validation=Validation(measure, every=3))

def start(folder, method):
    with open(Path(folder).with_suffix('.log'), 'a') as log:
        return subprocess.Popen([sys.executable, __file__, 'train', method, str(folder)], stdout=log,
                                stderr=log, start_new_session=True)

def saved(folder): return sorted((Path(folder)/'checkpoints').glob('step-*'))

def weights(folder):
    "A digest of the best weights, and the validation that found them"
    digest = sha256((Path(folder)/'model.safetensors').read_bytes()).hexdigest()
    return digest, json.loads((Path(folder)/'record.json').read_text())['validation']

def finish(folder, method='mrovseg'):
    process = start(folder, method)
    if process.wait(600): raise RuntimeError(Path(folder).with_suffix('.log').read_text())
    return weights(folder)

def newest(folder): return int(saved(folder)[-1].name[5:]) if saved(folder) else 0

def writing(folder): return list((folder/'checkpoints').glob('.writing-*'))

def kill_and_resume(folder, rng, kills, method='mrovseg', least=0):
    "Kill `kills` times, every other time inside a save, `least` or more checkpoints later; let it end."
    said = []
    while len(said) < kills:
        process, aimed, deadline = start(folder, method), len(said) % 2 == 0, time.time() + 120
        goal = newest(folder) + rng.randrange(least, 3)
        while newest(folder) < goal or aimed and not writing(folder):
            if process.poll() is not None or time.time() > deadline: break
            time.sleep(0.0005 if aimed else 0.002)
        time.sleep(rng.random()*(0.02 if aimed else 0.25 if newest(folder) else 3))
        if process.poll() is not None: break                                # it was done before the kill
        os.killpg(process.pid, signal.SIGKILL); process.wait()
        said.append(dict(step=newest(folder), while_saving=bool(writing(folder))))
    return said, finish(folder, method)

class Resume(unittest.TestCase):
    def test_three_kills(self):
        with tempfile.TemporaryDirectory() as tmp:
            whole = finish(Path(tmp)/'whole')
            said, killed = kill_and_resume(Path(tmp)/'killed', random.Random(int(os.environ.get('SEED', 0))),
                                           3)
            self.assertEqual(len(said), 3, said)
            self.assertTrue(any(kill['while_saving'] for kill in said), said)
            self.assertEqual(killed, whole, said)

    def test_other_methods(self):
        "Two kills of each other method that is trained, one of them inside a save"
        from mrovseg_nb.methods.registry import METHODS
        methods = [name for name, m in METHODS.items() if m.trains and name != 'mrovseg']
        self.assertIn('sed', methods)
        for i, method in enumerate(methods):
            with self.subTest(method), tempfile.TemporaryDirectory() as tmp:
                whole = finish(Path(tmp)/'whole', method)
                rng = random.Random(int(os.environ.get('SEED', 0)) + i)
                said, killed = kill_and_resume(Path(tmp)/'killed', rng, 2, method, least=1)
                self.assertEqual(len(said), 2, said)
                self.assertTrue(all(0 < kill['step'] for kill in said), said)
                self.assertEqual(killed, whole, said)

    def test_told_to_stop(self):
        "SIGTERM to the process, as a cluster does it; Ctrl-C, which all processes of a terminal hear"
        with tempfile.TemporaryDirectory() as tmp:
            whole = finish(Path(tmp)/'whole')
            signals = dict(sigterm=lambda p: p.terminate(), ctrl_c=lambda p: os.killpg(p.pid, signal.SIGINT))
            for name, tell in signals.items():
                folder = Path(tmp)/name
                process = start(folder, 'mrovseg')
                while not saved(folder): self.assertIsNone(process.poll()); time.sleep(0.01)
                tell(process)
                said = lambda: folder.with_suffix('.log').read_text()
                self.assertEqual(process.wait(60), 0, said())
                at = int(saved(folder)[-1].name[5:])
                self.assertTrue(0 < at < STEPS['mrovseg'])
                self.assertIn(f'Stopped after step {at} of {STEPS["mrovseg"]}: resume from', said())
                self.assertEqual(finish(folder), whole)

def record(runs, method):
    "`runs` runs, each killed at least once; the outcome goes to resume.json, or resume-METHOD.json."
    from mrovseg_nb.basics.records import write_record
    rng, outcome, t = random.Random(0), [], time.time()
    with tempfile.TemporaryDirectory() as tmp:
        whole = finish(Path(tmp)/'whole', method)
        for i in range(runs):
            said, killed = kill_and_resume(Path(tmp)/f'run{i}', rng, rng.randrange(1, 3), method)
            outcome.append(dict(kills=said, identical=killed == whole))
            print(i, outcome[-1], flush=True)
    good, inside = sum(o['identical'] and bool(o['kills'])
                       for o in outcome), sum(k['while_saving'] for o in outcome for k in o['kills'])
    name = 'resume' if method == 'mrovseg' else f'resume-{method}'
    write_record(Path(__file__).parents[1]/'data'/'results'/name, method=method,
                 what='runs killed by SIGKILL at random moments, every other one inside a save, and resumed; '
                       'are the weights those of a run that was not killed?',
                 steps=STEPS.get(method, STEPS['other']), runs=outcome, identical=good,
                 kills=sum(len(o['kills']) for o in outcome),
                 kills_while_saving=inside, seconds=round(time.time() - t))
    print(f'{good} of {runs} runs ended with the weights of the run that was not killed; '
          f'{inside} kills fell into a save')

if __name__ == '__main__':
    if sys.argv[1] == 'train': train_here(*sys.argv[2:])
    else: record(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else 'mrovseg')
