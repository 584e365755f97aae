"""What providers of models that call tools have in common: pure, and of no vendor.

A model calls skills as tools, and decides on any other action by calling one of a few reserved
tools, whose names begin with `RESERVED`. These are the rules, the same for every provider:

- Calls of skills are one `CallSkills`. Where the model calls reserved tools beside them, the
  skills go first, and the reserved calls are left out: the model can repeat them when it sees
  the results. Only `suspend` goes together with calls of skills: they wait for a person.
- Of several reserved calls the first counts.
- A call id that is missing, or there twice, is left out, and the engine makes one up.
- A name that is no tool's is kept, so that the engine can tell the model so.
- Text alone is the answer; a text that is exactly the JSON object `{"type": "yield"}` (a `reason`
  is allowed in it) means `Yield`.
- What cannot be read (arguments that are no JSON object, an empty answer, an answer cut short) is
  an `abc.InvalidAnswer`: the model is told why, which costs a step. Nothing is guessed.
"""

from __future__ import annotations

from rainengine.core.tool_calling._actions import Tool as Tool
from rainengine.core.tool_calling._actions import action_tools as action_tools
from rainengine.core.tool_calling._answers import ModelAnswer as ModelAnswer
from rainengine.core.tool_calling._answers import ToolUse as ToolUse
from rainengine.core.tool_calling._answers import read_answer as read_answer
from rainengine.core.tool_calling._names import RESERVED as RESERVED
from rainengine.core.tool_calling._names import tool_name as tool_name
from rainengine.core.tool_calling._names import unique_ids as unique_ids
from rainengine.core.tool_calling._texts import json_text as json_text
from rainengine.core.tool_calling._texts import result_text as result_text
from rainengine.core.tool_calling._texts import shortened as shortened
from rainengine.core.tool_calling._tools import offered_tools as offered_tools
