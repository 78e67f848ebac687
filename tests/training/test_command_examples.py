import shlex

import pytest

from hepfm import cli


@pytest.mark.parametrize("path", [("finetune",), ("predict",), ("evaluate",), ("study", "labels")], ids=" ".join)
def test_the_examples_of_a_command_are_what_it_accepts(path):
    command = cli.cli
    for name in path:
        command = command.commands[name]
    examples = [shlex.split(line) for line in command.epilog.splitlines() if line.startswith("  hepfm-data")]
    assert len(examples) >= 2
    for words in examples:
        assert tuple(words[1 : 1 + len(path)]) == path
        command.make_context(path[-1], words[1 + len(path) :])
