"""Streams over a web server that cuts connections, answers with errors, sends too little and falls silent:
every row comes exactly once.

The server is started here, on this machine alone; the shards are real, written by `convert`, and read by
`datasets` over HTTP. Started as a script, this file is another process: it goes on from a state, or
converts and is killed.
"""
import io, json, logging, multiprocessing, os, random, re, socket, subprocess
import sys, tempfile, threading, time, unittest, warnings
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

# also in the processes that are started: hundreds of faults are meant
os.environ['DATASETS_VERBOSITY'] = 'critical'

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mrovseg_nb.data.rows import LabelledData
from mrovseg_nb.data.conversion import check_shards, convert, encode_row, write_parquet
from mrovseg_nb.data.retries import RetryPolicy
from mrovseg_nb.data.stream import ShuffledStream
from mrovseg_nb.data.shards import open_shards
from mrovseg_nb.data.transforms import Augment
from mrovseg_nb.data.vocabulary import parse_classes
from mrovseg_nb.training.batches import MicroBatches, micro_batch_loader

# how often each, in ten
FAULTS = ('cut', 'cut', 'half', 'half', 'short', '500', '503', '504', '429', 'silent')
SILENT = 8  # at most, because they cost a timeout each
N, GROUP = 240, 4
# no backoff: the server is well between its faults
quick = RetryPolicy(retries=300, damaged_retries=300, first_wait=0.01, longest_wait=0.01)


# the server

class Handler(BaseHTTPRequestHandler):
    "Files of a folder, in ranges, with a fault now and then"
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def do_HEAD(self): self.answer(body=False)
    def do_GET(self): self.answer()

    def answer(self, body=True):
        path, fault = self.server.folder/self.path.lstrip('/'), self.server.fault()
        if fault == 'cut': return self.hang_up()
        if fault == 'silent': time.sleep(1.5); return self.hang_up()
        if fault and fault.isdigit(): return self.send(int(fault), b'', 0)
        if not path.is_file(): return self.send(404, b'', 0)
        content = path.read_bytes()
        first, last = self.range(len(content))
        part = content[first:last + 1]
        more = {'Content-Range': f'bytes {first}-{last}/{len(content)}'} if 'Range' in self.headers else {}
        if fault == 'short' and more: part = part[:len(part)//2]  # and says so: only its reader knows better
        told = part if body else b''
        self.send(206 if more else 200, told[:len(told)//2] if fault == 'half' and body else told, len(part),
                  **more)
        if fault == 'half': self.hang_up()

    def range(self, size):
        asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', 'bytes=0-'))
        return int(asked[1]), min(int(asked[2] or size), size - 1)

    def send(self, status, body, length, **headers):
        try:
            self.send_response(status)
            for k, v in {'Content-Length': length, 'Accept-Ranges': 'bytes', **headers}.items():
                self.send_header(k, str(v))
            self.end_headers()
            for at in range(0, len(body), 2**16):  # a reader may want the headers only
                self.wfile.write(part := body[at:at + 2**16])
                with self.server.lock: self.server.bytes += len(part)
        except OSError: self.hang_up()  # the reader was gone first

    def hang_up(self):
        self.close_connection = True
        try: self.connection.shutdown(socket.SHUT_RDWR)
        except OSError: pass

class Server(ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True
    def __init__(self, folder, share, seed=0):
        super().__init__(('127.0.0.1', 0), Handler)
        self.folder, self.share, self.rng, self.lock = folder, share, random.Random(seed), threading.Lock()
        self.faults, self.requests, self.bytes, self.gone = Counter(), 0, 0, False
    def fault(self):
        "The fault of this request, or None; counted"
        with self.lock:
            self.requests += 1
            if self.gone: return 'cut'  # a connection that was kept open
            if self.rng.random() >= self.share: return None
            f = self.rng.choice(FAULTS)
            if f == 'silent' and self.faults[f] == SILENT: f = 'cut'
            self.faults[f] += 1
            return f
    def handle_error(self, *args): pass

@contextmanager
def serving(folder, share=0.):
    "A server of a folder, and its address; a `share` of its answers are faults"
    server = Server(Path(folder), share)
    thread = threading.Thread(target=server.serve_forever, daemon=True); thread.start()
    try: yield server, f'http://127.0.0.1:{server.server_port}/'
    finally: server.gone = True; server.shutdown(); server.server_close(); thread.join()


# the rows

def raw(i):
    "A noisy picture, with noisy labels of 16 bits"
    rng = np.random.default_rng(i)
    Image.fromarray(rng.integers(0, 256, (20, 20 + i % 7, 3),
                                 dtype=np.uint8)).save(out := io.BytesIO(), 'JPEG')
    return dict(image=out.getvalue(), labels=rng.integers(0, 65536, (20, 20 + i % 7), dtype=np.uint16),
                image_id=str(i))

def rows_at(url, **of): return open_shards(url, 'train', timeout=0.5, retry=quick, **of)

def digest(row):
    return row['image_id'], np.asarray(row['labels']).tobytes(), np.asarray(row['image']).tobytes()

def workers():
    processes = multiprocessing.get_context('forkserver')
    processes.set_forkserver_preload(['mrovseg_nb.training.batches'])
    return processes

def rest(url, state):
    "What another process does: goes on from a state"
    stream = ShuffledStream(rows_at(url), seed=5, window=16, retry=quick)
    stream.load_state_dict(state)
    print(json.dumps([row['image_id'] for row in stream]))


def slowly(i): time.sleep(0.01); return raw(i)

def noise(read=raw, rows=range(N)):
    return LabelledData(rows, parse_classes('noise'), read, name='noise', split_name='train')

def converted(folder, read=raw): return convert(noise(read), folder, group=GROUP, size=50_000, progress=False)


class Streaming(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        logging.getLogger('mrovseg_nb.streaming').disabled = True
        datasets.disable_progress_bars()
        cls.tmp = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.tmp.name)
        convert(noise(), cls.folder, group=GROUP, size=200_000, progress=False)
        cls.truth = {i: (str(i), raw(i)['labels'].tobytes(),
                         np.asarray(Image.open(io.BytesIO(raw(i)['image']))).tobytes()) for i in range(N)}

    @classmethod
    def tearDownClass(cls): cls.tmp.cleanup()

    def exactly_once(self, rows):
        "All of them, no one twice, each to the last bit"
        rows = list(rows)
        self.assertEqual(Counter(i for i, *_ in rows), Counter(str(i) for i in range(N)))
        for row in rows: self.assertEqual(row, self.truth[int(row[0])])

    def test_200_faults(self):
        start, epochs, before = time.time(), [], datasets.config.STREAMING_READ_RETRY_INTERVAL
        with serving(self.folder, 0.35) as (server, url):
            stream = ShuffledStream(rows_at(url), seed=1, window=16, retry=quick)
            while len(epochs) < 2 or sum(server.faults.values()) < 200:
                epochs.append([digest(row) for row in stream])
                self.exactly_once(epochs[-1])
            self.assertGreaterEqual(sum(server.faults.values()), 200)
            self.assertEqual(server.faults.keys(), set(FAULTS))
            print(f'\n{sum(server.faults.values())} faults in {server.requests} requests, '
                  f'{len(epochs)} epochs of {N} rows, '
                  f'{time.time() - start:.1f} s: {dict(server.faults)}')
        self.assertNotEqual(epochs[0], epochs[1])
        self.assertEqual(datasets.config.STREAMING_READ_RETRY_INTERVAL, before)
        whole = ShuffledStream(open_shards(self.folder), seed=1, window=16)
        # the order is that of the disk, faults or not
        for epoch in epochs: self.assertEqual([digest(row) for row in whole], epoch)

    def test_two_processes_of_two_workers(self):
        start, found = time.time(), []
        with serving(self.folder, 0.3) as (server, url):
            rows = rows_at(url)
            for rank in range(2):
                stream = ShuffledStream(rows, seed=2, window=16, rank=rank, world=2, retry=quick)
                found.append([digest(row)
                              for row in DataLoader(stream, batch_size=None, num_workers=2,
                                                    multiprocessing_context=workers())])
            self.exactly_once(sum(found, []))
            print(f'\n2 processes x 2 workers: {[len(f) for f in found]} rows, '
                  f'{sum(server.faults.values())} faults, {time.time() - start:.1f} s')
            self.assertGreater(sum(server.faults.values()), 20)

    def test_resume_inside_a_shard_in_another_process(self):
        with serving(self.folder, 0.15) as (server, url):
            rows = rows_at(url)
            whole = [row['image_id'] for row in ShuffledStream(rows, seed=5, window=16, retry=quick)]
            for n in (1, 57, N):
                first, then = (ShuffledStream(rows, seed=5, window=16, retry=quick) for _ in range(2))
                seen = [row['image_id'] for row in islice(first, n)]
                state = json.dumps(first.state_dict())
                then.load_state_dict(json.loads(state))
                self.assertEqual(seen + [row['image_id'] for row in then], whole, n)
                if n != 57: continue  # 3*16 + 9: in a window, a row group and a file
                done = subprocess.run([sys.executable, __file__, url, state], capture_output=True, text=True,
                                      timeout=120)
                self.assertEqual(done.returncode, 0, done.stderr[-3000:])
                self.assertEqual(seen + json.loads(done.stdout), whole)

    def test_training_from_the_web(self):
        "The parts of a run do not depend on the connection, on workers, or on a stop"
        def parts(rows, **of):
            data = LabelledData(rows, parse_classes([f'class {i}' for i in range(65536)]), ignore=65535,
                                window=16, retry=quick)
            return MicroBatches(data, Augment(16), 2, 4, 0, **of)
        here = list(islice(parts(open_shards(self.folder)), 70))
        with serving(self.folder, 0.3) as (server, url):
            rows = rows_at(url)
            states = json.loads(json.dumps({p['lane']: p['state'] for p in here[:33]}))
            for made, as_here in ((micro_batch_loader(parts(rows), 2), here),
                                  (micro_batch_loader(parts(rows, start=33, states=states), 0), here[33:])):
                for a, b in zip(as_here, made):
                    self.assertEqual(a['ids'], b['ids'])
                    self.assertTrue(torch.equal(a['images'], b['images'])
                                    and torch.equal(a['labels'], b['labels']))
            self.assertGreater(sum(server.faults.values()), 20)

    def test_damaged_rows(self):
        "An image cut short, a mask of another size, a mask that is no image: skipped and named, or an error"
        with tempfile.TemporaryDirectory() as tmp:
            rows = [encode_row(raw(i)) for i in range(12)]
            rows[3]['image']['bytes'] = rows[3]['image']['bytes'][:-300]
            rows[5]['labels'] = encode_row(raw(6))['labels']
            rows[8]['labels']['bytes'] = b'no picture'
            with self.assertRaisesRegex(ValueError, '3 cannot be converted: its image cannot be read'):
                convert(noise(dict, [rows[3]]), tmp, 'bad', progress=False)
            files = [write_parquet(Path(tmp)/'0.parquet', iter(rows), 10**9, 4)]
            with serving(tmp, 0.1) as (server, url):
                opened = open_shards([f'{url}{files[0]["file"]}'], timeout=0.5, retry=quick)
                with self.assertRaisesRegex(ValueError,
                                            'A row cannot be decoded, 3: its image cannot be read'):
                    list(ShuffledStream(opened, seed=None, retry=quick))
                stream = ShuffledStream(opened, seed=3, window=8, on_error='skip', retry=quick)
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter('always')
                    self.assertEqual({row['image_id'] for row in stream},
                                     {str(i) for i in range(12)} - {'3', '5', '8'})
                self.assertEqual({s.split(':')[0] for s in stream.skipped}, {'3', '5', '8'})
                self.assertEqual(sum('Skipped' in str(w.message) for w in warned), 3)

    def test_it_gives_up(self):
        "A missing file is an error at once; a server that is gone and a damaged file, after their retries"
        waits = []
        retry = RetryPolicy(3, sleep=waits.append)
        with serving(self.folder) as (server, url):
            with self.assertRaises(FileNotFoundError):
                open_shards([url + 'nothing.parquet'], retry=retry)
            self.assertEqual(waits, [])
            rows = rows_at(url)
        with self.assertRaisesRegex(OSError, 'After 4 tries in succession the data cannot be read'):
            next(iter(ShuffledStream(rows, retry=retry)))
        self.assertEqual(len(waits), 3)
        self.assertTrue(0.5 <= waits[0] <= 1 <= waits[1] <= 2 <= waits[2] <= 4)
        with tempfile.TemporaryDirectory() as tmp:
            whole = (self.folder/'train'/'00000.parquet').read_bytes()
            at = whole.index(raw(int(next(iter(ShuffledStream(open_shards(self.folder), dict,
                                                              None)))['image_id']))['image']) + 200
            (Path(tmp)/'0.parquet').write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            with serving(tmp) as (server, url), self.assertRaisesRegex(OSError,
                                                                       'CRC checksum verification failed'):
                list(ShuffledStream(open_shards([url + '0.parquet']),
                                    retry=RetryPolicy(sleep=waits.append)))

    def test_a_killed_conversion(self):
        "No half folder looks whole, and the second attempt ends with the files of one that was not killed"
        with tempfile.TemporaryDirectory() as tmp:
            folder = Path(tmp)/'killed'/'train'
            process = subprocess.Popen([sys.executable, __file__, 'convert', str(folder.parent)])
            while not (len(list(folder.glob('0*.parquet'))) > 1 and list(folder.glob('.*.part'))):
                self.assertIsNone(process.poll()); time.sleep(0.005)
            process.kill(); process.wait()
            with self.assertRaisesRegex(ValueError, 'is half converted'): open_shards(folder.parent)
            self.assertTrue(list(folder.glob('.*.part')))
            self.assertEqual(check_shards(converted(folder.parent)),
                             check_shards(converted(Path(tmp)/'whole')))
            self.assertEqual(sorted(p.name for p in folder.iterdir()),
                             sorted(p.name for p in (Path(tmp)/'whole'/'train').iterdir()))

    def test_little_is_read(self):
        "The first row and a resume cost row groups, not files"
        with tempfile.TemporaryDirectory() as tmp:
            def large(i): # JPEG, then noise that no decoder reads
                return raw(i) | dict(image=raw(i)['image'] + np.random.default_rng(i).bytes(60_000))
            convert(noise(large, range(640)), tmp, progress=False)
            size = check_shards(Path(tmp)/'train')['files'][0]['bytes']
            with serving(tmp) as (server, url):
                rows = open_shards(url)
                def cost(state=None):
                    stream = ShuffledStream(rows, seed=0, window=32, rank=0, world=1)
                    if state: stream.load_state_dict(state)
                    server.bytes, start = 0, time.time()
                    row = next(it := iter(stream))
                    return server.bytes, time.time() - start, stream, it
                first, seconds, stream, it = cost()
                for _ in islice(it, 399): pass
                state = stream.state_dict()
                it.close()
                resumed, again, _, _ = cost(state)
                print(f'\nof {size/1e6:.0f} MB: first row {first/1e6:.1f} MB, {seconds:.2f} s; '
                      f'resume at row 400 {resumed/1e6:.1f} MB, {again:.2f} s; '
                      f'state {len(json.dumps(state))} bytes')
                self.assertLess(first, size/3)
                self.assertLess(resumed, size/3)


if __name__ == '__main__':
    converted(Path(sys.argv[2]),
              slowly) if sys.argv[1] == 'convert' else rest(sys.argv[1], json.loads(sys.argv[2]))
