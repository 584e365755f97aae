"""Skills and the running of tool graphs."""

from __future__ import annotations

from rainengine.core.tools._arguments import argument_errors as argument_errors
from rainengine.core.tools._arguments import check_schema as check_schema
from rainengine.core.tools._calls import MAX_RESUMED_ATTEMPTS as MAX_RESUMED_ATTEMPTS
from rainengine.core.tools._calls import Caller as Caller
from rainengine.core.tools._decorator import skill as skill
from rainengine.core.tools._enclosing import Consequence as Consequence
from rainengine.core.tools._enclosing import RolledBack as RolledBack
from rainengine.core.tools._inspection import Inspection as Inspection
from rainengine.core.tools._inspection import Inspector as Inspector
from rainengine.core.tools._manifests import check_manifest as check_manifest
from rainengine.core.tools._native import NativeSkill as NativeSkill
from rainengine.core.tools._native import NativeTransactionalSkill as NativeTransactionalSkill
from rainengine.core.tools._runner import GraphRunner as GraphRunner
from rainengine.core.tools._transactional import check_transactional as check_transactional
from rainengine.core.tools._transactional import transactional_skill as transactional_skill
