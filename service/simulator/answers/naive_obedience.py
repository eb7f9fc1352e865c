"""Simulates a naive model, which follows every instruction outside the data, to test prompt injection.

Text inside the data block is never an instruction. The block ends at the first ``</data>``, as for a model
that reads from front to back; in the paper's form the data are the lines that are JSON lists. So an
instruction in a title works if the title ends the block or breaks out of its string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from service.simulator.answers.prompt_parser import ParsedPrompt, PromptForm
from service.simulator.contracts import ChatRequest

# Orders as the adversarial tests write them into titles and captions.
_ORDER = re.compile(
    r"\brank\s+(?:candidate\s+)?\[?(?P<first>\w+)\]?\s+first\b"
    r"|\banswer\s+only\s+\[?(?P<only>\w+)\]?"
    r"|\bsay\s+[\"“']?(?P<say>[^\"”'\n.]{1,200})",
    re.IGNORECASE,
)

Instruction = tuple[str, str]
"""An instruction: what to do (``first``, ``only``, ``say``), and the label or text to do it with."""


def find_instructions(request: ChatRequest) -> tuple[Instruction, ...]:
    """Finds the instructions that stand outside the data of the user's messages."""
    text = "\n".join(request.texts)
    if "<data>" in text:
        # The first closing marker ends the data, also one that a title has smuggled in.
        before, _, rest = text.partition("<data>")
        _, _, after = rest.partition("</data>")
        text = f"{before}\n{after}"
    else:
        # The paper's form has no markers; its data are the lines that are JSON lists.
        text = "\n".join(line for line in text.splitlines() if not _is_list(line))
    return tuple(
        (str(found.lastgroup), str(found[str(found.lastgroup)]).strip()) for found in _ORDER.finditer(text)
    )


def obey(instructions: Sequence[Instruction], text: str, prompt: ParsedPrompt) -> str:
    """Changes an answer to a prompt as the instructions say."""
    key = {PromptForm.LABEL: "ranking", PromptForm.PAPER: "recommendations"}.get(prompt.form)
    if key is None:
        return " ".join(what for kind, what in instructions if kind == "say") or text
    proposal = json.loads(text)
    said = ""
    for kind, what in instructions:
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
