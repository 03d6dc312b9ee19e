"""What the notebooks say about the paper: the table of its items in the index is complete, its links lead to
files, and what it calls measured is recorded; our own study of resolutions is called no figure of the paper;
the tutorial of the ablations prints its numbers and has none typed into its text.

    python -m unittest tests.test_paper_items
"""
import json, re, unittest
from pathlib import Path

from mrovseg_nb.study.table_results import table_results

REPO = Path(__file__).parents[1]
ITEMS = [*(f'eq. {k}' for k in range(1, 10)), *(f'Table {k}' for k in range(1, 9)),
         *(f'Fig. {k}' for k in range(1, 10))]                         # all that the paper has
STATES = ('built', 'drawn', 'measured', 'part measured', 'not run', 'not drawn')
TITLE = '## The paper, item by item'


def cells(path:Path, kind:str) -> list[str]:
    "The sources of the cells of one kind."
    return [''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == kind]

def paragraphs() -> list[tuple[str, str]]: # where, text
    "All prose of the notebooks and of README, and each code cell."
    found = [('README.md', text) for text in (REPO/'README.md').read_text().split('\n\n')]
    for path in sorted((REPO/'nbs').rglob('[0-9i]*.ipynb')):
        found += [(path.name, part) for text in cells(path, 'markdown') for part in text.split('\n\n')]
        found += [(path.name, text) for text in cells(path, 'code')]
    return found

def item_rows() -> list[list[str]]: # item, where, state
    "The rows of the table in the index, without its headings."
    [text] = [c for c in cells(REPO/'nbs'/'index.ipynb', 'markdown') if TITLE in c]
    lines = [line for line in text.splitlines() if line.startswith('|')][2:]
    rows = [[part.strip() for part in line.strip('|').split('|')] for line in lines]
    return [row for row in rows if not row[0].startswith('**')]


class TableOfItems(unittest.TestCase):
    def test_every_item_of_the_paper_has_one_row(self):
        named = [re.match(r'(?:eq\.|Table|Fig\.) \d', row[0]) for row in item_rows()]
        self.assertEqual(sorted(m[0] for m in named if m), sorted(ITEMS))

    def test_places_and_states(self):
        for item, where, state in item_rows():
            with self.subTest(item=item):
                self.assertTrue(state.startswith(STATES), state)
                links = re.findall(r'\]\(([^)]+)\)', where + state)
                self.assertIn('](', where)
                for link in links: self.assertTrue((REPO/'nbs'/link).is_file(), link)

    def test_what_is_called_measured_is_recorded(self):
        parts = {'3': ['3'], '5': ['5'], '6': ['6'], '7': ['7a', '7b', '7c', '7d', '7e', '7f'], '8': ['8']}
        states = {item[6]: state for item, _, state in item_rows() if item.startswith('Table')}
        for number, tables in parts.items():
            done = all(row['done'] for t in tables for row in table_results(t))
            self.assertEqual(states[number].startswith('measured'), done, number)


class Texts(unittest.TestCase):
    def test_the_study_of_resolutions_is_ours(self):
        for where, text in paragraphs():
            if re.search(r'Fig(ure|\.)? ?7\b', text): self.assertIn('backbone', text.lower(), where)
            if re.search(r'mIoU against (the )?resolution|plot_resolutions', text):
                self.assertTrue('Fig.' not in text or 'not in the paper' in text, (where, text))
        [title] = [c for c in cells(REPO/'nbs/00_tutorials/06_ablations.ipynb', 'markdown')
                   if '## mIoU against resolution' in c]
        self.assertIn('This figure is not in the paper', title)

    def test_the_ablations_print_their_numbers(self):
        measured = re.compile(r'±|\d\.\d')
        for text in cells(REPO/'nbs/00_tutorials/06_ablations.ipynb', 'markdown'):
            for part in text.split('\n\n'):
                typed = re.sub(r'p = [\d.]+|\d\d_\w+', '', part)
                if 'audit' not in part: self.assertIsNone(measured.search(typed), part)

    def test_claims_that_were_not_supported(self):
        withdrawn = (
            'No number of the paper was used to choose', 'biases and norms, which are vectors (SAN)',
            'those without (SAN)', 'This is SAN, the row "+ Masked Attention"',
            'a problem that so small a CLIP does not have. Terrarium', 'so this supports those choices')
        for where, text in paragraphs():
            for claim in withdrawn: self.assertNotIn(claim, ' '.join(text.split()), where)


if __name__ == '__main__': unittest.main()
