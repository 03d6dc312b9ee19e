"The metadata is in settings.ini, the version in mrovseg_nb/__init__.py; data/ travels in the wheel as mrovseg_nb/_data."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
read = lambda name: (root/name).read_text(encoding='utf-8')
ini = ConfigParser(delimiters=['='])
ini.read_string(read('settings.ini'))
cfg = ini['DEFAULT']
lib = cfg['lib_path']

setup(
    name=cfg['lib_name'], version=re.search(r'^__version__ = "(.+)"', read(f'{lib}/__init__.py'), re.M)[1],
    description=cfg['description'], long_description=read('README.md'), long_description_content_type='text/markdown',
    author=cfg['author'], license=cfg['license'], keywords=cfg['keywords'].split(), python_requires='>=' + cfg['min_python'],
    packages=[*find_packages(include=[lib, f'{lib}.*']), f'{lib}._data'],
    package_dir={f'{lib}._data': 'data'}, package_data={f'{lib}._data': ['**/*']},
    install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')},
    entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=[f'{lib}={lib}._modidx:d']),
)
