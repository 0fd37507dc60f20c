"""Runs a guide's examples, in its order and in one process: what it shows is what comes.

python -m tests.stack.guide_examples GUIDE.md
"""

import doctest
import os
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main(guide: Path) -> int:
    """1 if an example fails; the first that does ends it."""
    # Where an example's own output is looked at, vLLM's log must not be.
    os.environ["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"
    text = guide.read_text(encoding="utf-8")
    examples = "\n".join(BLOCK.findall(text))
    test = doctest.DocTestParser().get_doctest(examples, {"__name__": "__main__"}, guide.name, str(guide), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.FAIL_FAST)
    runner.run(test)
    print(f"{runner.tries} examples, {runner.failures} failed")
    return 1 if runner.failures or not runner.tries else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
