"""A run that is killed with SIGKILL at random moments, saving included, and resumed ends with the weights of one that was not.

    python -m unittest tests.test_resume     # 3 kills, as in CI
    python tests/test_resume.py 20           # 20 runs, each killed once or twice; writes data/results/resume.json
"""
import json, os, random, signal, subprocess, sys, tempfile, time, unittest
from hashlib import sha256
from pathlib import Path

STEPS = 16

def train_here(folder):
    "What the killed process does: a small run that saves after every step."
    import torch
    from dataclasses import replace
    from mrovseg_nb.model.mrovseg import preset
    from mrovseg_nb.training.losses import LossWeights
    from mrovseg_nb.training.recipes import Recipe
    from mrovseg_nb.training.trainer import train
    torch.set_num_threads(1)
    config = replace(preset('terrarium'), blocks=2, queries=8, fusion_layers=(0, 2, 3, 4))
    train(config, Recipe(steps=STEPS, batch=4, accumulate=2, warmup=4, ema=0.9, lanes=2, loss=LossWeights(points=128)), folder,
          resume=True, every=1, progress=False)

def start(folder):
    with open(Path(folder).with_suffix('.log'), 'a') as log:
        return subprocess.Popen([sys.executable, __file__, 'train', str(folder)], stdout=log, stderr=log, start_new_session=True)

def saved(folder): return sorted((Path(folder)/'checkpoints').glob('step-*'))

def weights(folder): return sha256((Path(folder)/'model.safetensors').read_bytes()).hexdigest()

def finish(folder):
    process = start(folder)
    if process.wait(300): raise RuntimeError(Path(folder).with_suffix('.log').read_text())
    return weights(folder)

def kill_and_resume(folder, rng, kills):
    "Kill `kills` times, each after a random number of further checkpoints and a random part of a step; then let it end."
    said = []
    while len(said) < kills:
        process, before = start(folder), len(list(saved(folder))) and int(saved(folder)[-1].name[5:])
        goal, deadline = before + rng.randrange(0, 3), time.time() + 120
        while (not saved(folder) and goal) or (saved(folder) and int(saved(folder)[-1].name[5:]) < goal):
            if process.poll() is not None or time.time() > deadline: break
            time.sleep(0.002)
        time.sleep(rng.random()*(3 if goal == before else 0.25))
        if process.poll() is not None: break                                # it was done before the kill
        os.killpg(process.pid, signal.SIGKILL); process.wait()
        said.append(dict(step=int(saved(folder)[-1].name[5:]) if saved(folder) else 0, while_saving=bool(list((folder/'checkpoints').glob('.writing-*')))))
    return said, finish(folder)

class Resume(unittest.TestCase):
    def test_three_kills(self):
        with tempfile.TemporaryDirectory() as tmp:
            whole = finish(Path(tmp)/'whole')
            said, killed = kill_and_resume(Path(tmp)/'killed', random.Random(int(os.environ.get('SEED', 0))), 3)
            self.assertEqual(len(said), 3, said)
            self.assertEqual(killed, whole, said)

    def test_told_to_stop(self):
        "SIGTERM to the process, as a cluster does it; Ctrl-C, which all processes of a terminal hear"
        with tempfile.TemporaryDirectory() as tmp:
            whole = finish(Path(tmp)/'whole')
            for name, tell in dict(sigterm=lambda p: p.terminate(), ctrl_c=lambda p: os.killpg(p.pid, signal.SIGINT)).items():
                folder = Path(tmp)/name
                process = start(folder)
                while not saved(folder): self.assertIsNone(process.poll()); time.sleep(0.01)
                tell(process)
                said = lambda: folder.with_suffix('.log').read_text()
                self.assertEqual(process.wait(60), 0, said())
                at = int(saved(folder)[-1].name[5:])
                self.assertTrue(0 < at < STEPS)
                self.assertIn(f'Stopped after step {at} of {STEPS}: resume from', said())
                self.assertEqual(finish(folder), whole)

def record(runs):
    "`runs` runs, each killed at least once; the outcome goes to data/results/resume.json."
    from mrovseg_nb.data.records import write_record
    rng, outcome, t = random.Random(0), [], time.time()
    with tempfile.TemporaryDirectory() as tmp:
        whole = finish(Path(tmp)/'whole')
        for i in range(runs):
            said, killed = kill_and_resume(Path(tmp)/f'run{i}', rng, rng.randrange(1, 3))
            outcome.append(dict(kills=said, identical=killed == whole))
            print(i, outcome[-1], flush=True)
    good = sum(o['identical'] and bool(o['kills']) for o in outcome)
    write_record(Path(__file__).parents[1]/'data'/'results'/'resume', what='runs killed by SIGKILL at random moments and resumed; are the weights those of a run that was not killed?',
                 steps=STEPS, runs=outcome, identical=good, seconds=round(time.time() - t))
    print(f'{good} of {runs} runs ended with the weights of the run that was not killed')

if __name__ == '__main__':
    if sys.argv[1] == 'train': train_here(sys.argv[2])
    else: record(int(sys.argv[1]))
