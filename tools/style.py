"""What `tools/check.py style` asks of code and of prose. Every fault is one line that says where it is.

Code (cells of notebooks, tests/, tools/): lines of up to 110 characters; strings in single quotes unless they
contain one, docstrings in double quotes; the message of an error begins with a capital, a digit, a quote or a
placeholder, and ends without a full stop.
Prose (markdown cells, README.md): a notebook that is mentioned is linked, and relative links lead to files.
"""
import ast, io, json, re, tokenize
from pathlib import Path
from urllib.parse import unquote

WIDTH = 110
ONLY_URL = re.compile(r'\W*(\w+\W{1,4})?https?://\S+')       # one URL, perhaps after a name: no break
FENCED = re.compile(r'^( *)(```|~~~).*?(\n\1\2|\Z)|<!--.*?-->', re.M | re.S)
SPAN, MATH = re.compile(r'`[^`\n]+`'), re.compile(r'\$\$.+?\$\$|\$[^$\n]+\$', re.S)
LINK = re.compile(r'!?\[[^\[\]]*\]\([^()]*\)')
TARGET = re.compile(r'\]\(\s*<?([^)\s>]+)|^\[[^\]\n]+\]:\s+(\S+)|\b(?:src|href)="([^"]+)"', re.M)
MENTION = re.compile(r'(?<![\w/.*-])(?:[\w.-]+/)*(?:\d\d[a-z]?_[a-z]\w*(?:\.ipynb)?|\w+\.ipynb)(?!\w)')


def sources(path, kind):
    "(where, text) of each cell of `kind` in a notebook, counted from 1, or of the one text of another file"
    text = path.read_text(encoding='utf-8')
    if path.suffix != '.ipynb': return [(f'{path}', text)]
    return [(f'{path}, cell {i}', ''.join(c['source'])) for i, c in enumerate(json.loads(text)['cells'], 1)
            if c['cell_type'] == kind]

def literals(source):
    "(line, column, text) of each string literal; an f-string is one, though Python 3.12 cuts it into tokens"
    lines, opened = source.splitlines(keepends=True), []
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[t.type]
        if kind == 'STRING' and not opened: yield *t.start, t.string
        elif kind.endswith('STRING_START'): opened.append(t.start)
        elif kind.endswith('STRING_END'):
            (r, c), (end, stop) = opened.pop(), t.end
            if opened: continue                                # it stands inside another one
            tail = len(lines[end-1]) - stop
            text = ''.join(lines[r-1:end])[c:]
            yield r, c, text[:len(text) - tail]

def docstrings(tree, lines, module):
    "(line, column) of each docstring of functions and classes, and of the `module` if `tree` is one"
    for n in ast.walk(tree):
        if isinstance(n, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or module and n is tree:
            if ast.get_docstring(n) is None: continue
            row, column = n.body[0].lineno, n.body[0].col_offset
            yield row, len(lines[row-1].encode()[:column].decode())      # ast counts bytes, not characters

def wrong_quotes(source, tree, module):
    "(line, fault) of each string literal in the wrong quotes"
    docs = set(docstrings(tree, source.splitlines(), module))
    for row, column, text in literals(source):
        double = text.lstrip('rRbBuUfFtT')[0] == '"'
        if (row, column) in docs:
            if not double: yield row, f'a docstring in single quotes: {text:.40}'
        elif double and "'" not in text: yield row, f'a string in double quotes: {text:.40}'

def pieces(message, end):
    "The literal texts that the `message` of an error can begin (`end` 0) or end (`end` -1) with"
    if isinstance(message, ast.Constant) and isinstance(message.value, str): return [message.value]
    if isinstance(message, ast.JoinedStr): return pieces(message.values[end], end) if message.values else ['']
    if isinstance(message, ast.IfExp): return pieces(message.body, end) + pieces(message.orelse, end)
    if not isinstance(message, ast.BinOp) or not isinstance(message.op, ast.Add): return []
    near, far = (message.right, message.left) if end else (message.left, message.right)
    return pieces(near, end) + (pieces(far, end) if '' in pieces(near, end) else [])

def wrong_errors(tree):
    "(line, fault) of each `raise SomeError('...')` whose message is no sentence, or ends with a full stop"
    for n in ast.walk(tree):
        if not isinstance(n, ast.Raise) or not isinstance(n.exc, ast.Call) or not n.exc.args: continue
        name, message = ast.unparse(n.exc.func).split('.')[-1], n.exc.args[0]
        if not name[0].isupper(): continue                     # a function that returns the error
        for s in filter(None, pieces(message, 0)):
            if not (s[0].isupper() or s[0].isdigit() or s[0] in '\'"`'):
                yield n.lineno, f'an error begins in lower case: {s:.30}'
        for s in pieces(message, -1):
            if s.endswith('.') and not s.endswith('...'):
                yield n.lineno, f'an error ends with a full stop: {s[-30:]}'

def wrong_code(source, module):
    "(line, fault) of everything in Python `source`; the shell and the magics of a notebook are not Python"
    for row, line in enumerate(source.splitlines(), 1):
        if len(line) > WIDTH and not ONLY_URL.fullmatch(line): yield row, f'{len(line)} characters'
    source = '' if source.startswith('%%') else re.sub(r'(?m)^[%!].*', 'pass', source)
    try: tree = ast.parse(source)
    except SyntaxError as e: yield e.lineno, f'not Python: {e.msg}'
    else: yield from [*wrong_quotes(source, tree, module), *wrong_errors(tree)]

def blank(pattern, text):
    "`text` without what matches, its lines counted as before"
    return pattern.sub(lambda m: '\n'*m[0].count('\n'), text)

def wrong_prose(text, folder, notebooks):
    "(line, fault) of each link to nowhere from `folder`, and of each notebook mentioned without a link"
    def row(m): return m.string.count('\n', 0, m.start()) + 1
    text = blank(FENCED, text)
    for m in TARGET.finditer(blank(MATH, blank(SPAN, text))):
        to = unquote(next(filter(None, m.groups()))).partition('#')[0]
        if to and not re.match(r'[a-z][a-z0-9+.-]+:', to) and not (folder/to).exists():
            yield row(m), f'a link to nowhere: {to}'
    text = SPAN.sub(lambda m: '' if ' ' in m[0] else m[0], text)      # commands may name files
    while LINK.search(text): text = blank(LINK, text)                 # images, then the links around them
    known, folders = {p.stem for p in notebooks}, {f.name for p in notebooks for f in p.parents}
    for m in MENTION.finditer(text):
        name = m[0].split('/')[-1]
        if name.endswith('.ipynb') or name in known or '/' in m[0] and name not in folders:
            yield row(m), f'{m[0]} is not a link'

def style(notebooks):
    "Where the text of `notebooks`, tests/, tools/ and README.md is not in the style, as one line each"
    scripts = [p for folder in ('tests', 'tools') for p in sorted(Path(folder).glob('*.py'))]
    for p in [*notebooks, *scripts]:
        for where, text in sources(p, 'code'):
            for row, fault in wrong_code(text, p.suffix == '.py'): yield f'{where}, line {row}: {fault}'
    for p in [*notebooks, Path('README.md')]:
        for where, text in sources(p, 'markdown'):
            for row, fault in wrong_prose(text, p.parent, notebooks): yield f'{where}, line {row}: {fault}'
