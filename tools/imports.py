"""What `tools/check.py imports` asks: a module imports only from rooms above its own, and not in a circle.

The rooms are the folders of the package, in the order in which data flows. An import inside a function counts
for the direction, but not for circles, because it runs later. `__init__.py` of the package itself is exempt.
"""
import ast
from graphlib import CycleError, TopologicalSorter

ROOMS = 'basics data clip mrovseg methods benchmarks training evaluation study app'.split()


def outside_functions(node):
    "All nodes below `node` that run when the module is imported"
    for n in ast.iter_child_nodes(node):
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)): continue
        if isinstance(n, ast.If) and ast.unparse(n.test) == 'TYPE_CHECKING': continue      # for annotations
        yield n
        yield from outside_functions(n)

def imported(node, package):
    "Dotted names that `node` imports, modules or what is in them; `package` is where the module is, as parts"
    if isinstance(node, ast.Import): return [a.name for a in node.names]
    if not isinstance(node, ast.ImportFrom): return []
    above = package[:len(package) + 1 - node.level] if node.level else []
    return ['.'.join([*above, *filter(None, [node.module]), a.name]) for a in node.names]

def room(name):
    "mrovseg_nb.data.images -> data"
    return (name.split('.') + [''])[1]

def imports(lib):
    "The imports in the folder `lib` that go down the list of rooms, and the first circle, as one line each"
    paths = {'.'.join(p.relative_to(lib.parent).with_suffix('').parts).removesuffix('.__init__'): p
             for p in sorted(lib.rglob('*.py')) if p.parent != lib or not p.name.startswith('_')}
    loads = {}
    for module, p in paths.items():
        own, tree = room(module), ast.parse(p.read_text(encoding='utf-8'))
        package = p.relative_to(lib.parent).parent.parts
        if own not in ROOMS: yield f'{p}: {own} is not one of the rooms {", ".join(ROOMS)}'
        for n in ast.walk(tree):
            for name in imported(n, package):
                other = room(name)
                if name.split('.')[0] != lib.name: continue                               # not ours
                if not other or other.startswith('__'): continue                          # the package itself
                if other not in ROOMS: yield f'{p}, line {n.lineno}: {name} is in none of the rooms'
                elif own in ROOMS and ROOMS.index(own) < ROOMS.index(other):
                    yield f'{p}, line {n.lineno}: {own} imports {name}, and {other} is further down'
        names = [name for n in outside_functions(tree) for name in imported(n, package)]
        names += [name.rpartition('.')[0] for name in names]
        loads[module] = {name for name in names if name in paths} - {module}
    try: TopologicalSorter(loads).prepare()
    except CycleError as e: yield f'a circle of imports: {" -> ".join(reversed(e.args[1]))}'
