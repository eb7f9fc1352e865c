"""A naive model that does what it is told wherever it reads it: what the safety of prompts is tested against.

In the data it reads JSON strings, which are inert. The data ends where the first ``</data>`` stands, as for
a model that reads from front to back; in the paper's form the lines that are JSON lists are data. Whatever
stands outside is an instruction, and so is whatever a string that breaks out puts there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from service.simulator.answers.prompt_parser import Form, Question
from service.simulator.contracts import Ask

_ORDER = re.compile(
    r"\brank\s+(?:candidate\s+)?\[?(?P<first>\w+)\]?\s+first\b"
    r"|\banswer\s+only\s+\[?(?P<only>\w+)\]?"
    r"|\bsay\s+[\"“']?(?P<say>[^\"”'\n.]{1,200})",
    re.IGNORECASE,
)

Order = tuple[str, str]
"""What to do (``first``, ``only``, ``say``) and with what."""


def overheard(ask: Ask) -> tuple[Order, ...]:
    """The instructions that stand outside the data of the user's messages."""
    text = "\n".join(ask.texts)
    if "<data>" in text:
        before, _, rest = text.partition("<data>")
        _, _, after = rest.partition("</data>")
        text = f"{before}\n{after}"
    else:
        text = "\n".join(line for line in text.splitlines() if not _is_list(line))
    return tuple(
        (str(found.lastgroup), str(found[str(found.lastgroup)]).strip()) for found in _ORDER.finditer(text)
    )


def obey(orders: Sequence[Order], text: str, question: Question) -> str:
    """Change an answer as the orders say."""
    key = {Form.LABEL: "ranking", Form.PAPER: "recommendations"}.get(question.form)
    if key is None:
        return " ".join(what for kind, what in orders if kind == "say") or text
    proposal = json.loads(text)
    said = ""
    for kind, what in orders:
        if kind == "first":
            proposal[key] = [what, *(entry for entry in proposal[key] if entry != what)]
        elif kind == "only":
            proposal[key] = [what]
        else:
            said += f"{what}\n"
            proposal["explanation"] = what
    return said + json.dumps(proposal, ensure_ascii=False)


def _is_list(line: str) -> bool:
    try:
        return isinstance(json.loads(line), list)
    except ValueError:
        return False
