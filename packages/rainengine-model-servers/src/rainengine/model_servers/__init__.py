"""Loopback HTTP servers that speak the wire formats of model vendors, for tests.

They follow a script, refuse what breaks a vendor's rules for messages, and can be slow, broken
or silent where a test wants it so. They are real servers: SDKs and HTTP clients are exercised.
"""

from __future__ import annotations

from rainengine.model_servers._gemini import gemini_error as gemini_error
from rainengine.model_servers._gemini import open_gemini_server as open_gemini_server
from rainengine.model_servers._gemini_complaints import gemini_complaints as gemini_complaints
from rainengine.model_servers._messages import Reply as Reply
from rainengine.model_servers._messages import Request as Request
from rainengine.model_servers._moves import Cut as Cut
from rainengine.model_servers._moves import Hang as Hang
from rainengine.model_servers._moves import Move as Move
from rainengine.model_servers._moves import Pause as Pause
from rainengine.model_servers._moves import Reset as Reset
from rainengine.model_servers._moves import Send as Send
from rainengine.model_servers._moves import Sending as Sending
from rainengine.model_servers._moves import SendUnframed as SendUnframed
from rainengine.model_servers._moves import Until as Until
from rainengine.model_servers._moves import broken_off as broken_off
from rainengine.model_servers._moves import dribbled as dribbled
from rainengine.model_servers._moves import held as held
from rainengine.model_servers._moves import paced as paced
from rainengine.model_servers._openai import Embed as Embed
from rainengine.model_servers._openai import open_openai_server as open_openai_server
from rainengine.model_servers._openai_complaints import openai_complaints as openai_complaints
from rainengine.model_servers._script import Answer as Answer
from rainengine.model_servers._script import Asked as Asked
from rainengine.model_servers._script import Call as Call
from rainengine.model_servers._script import Failure as Failure
from rainengine.model_servers._script import Script as Script
from rainengine.model_servers._script import Stop as Stop
from rainengine.model_servers._script import Tokens as Tokens
from rainengine.model_servers._script import Turn as Turn
from rainengine.model_servers._server import Handler as Handler
from rainengine.model_servers._server import Server as Server
from rainengine.model_servers._server import open_server as open_server
