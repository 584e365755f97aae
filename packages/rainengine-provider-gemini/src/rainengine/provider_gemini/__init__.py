"""Gemini models as a provider of decisions and of embeddings.

Importing this package imports no SDK; `open_gemini_provider` does.
"""

from __future__ import annotations

from rainengine.provider_gemini._files import Resolve as Resolve
from rainengine.provider_gemini._open import open_gemini_provider as open_gemini_provider
from rainengine.provider_gemini._open import open_gemini_settings as open_gemini_settings
from rainengine.provider_gemini._provider import GeminiProvider as GeminiProvider
from rainengine.provider_gemini._settings import GeminiSettings as GeminiSettings
from rainengine.provider_gemini._settings import Sdk as Sdk
