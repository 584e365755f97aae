"""OpenAI-compatible models: chat completions, the responses API, embeddings.

Importing this module imports no SDK: that happens when a provider is opened.
"""

from __future__ import annotations

from rainengine.provider_openai._open import open_openai_provider as open_openai_provider
from rainengine.provider_openai._open import open_openai_settings as open_openai_settings
from rainengine.provider_openai._provider import OpenAIProvider as OpenAIProvider
from rainengine.provider_openai._provider import Resolve as Resolve
from rainengine.provider_openai._settings import Api as Api
from rainengine.provider_openai._settings import MaxTokensField as MaxTokensField
from rainengine.provider_openai._settings import OpenAISettings as OpenAISettings
