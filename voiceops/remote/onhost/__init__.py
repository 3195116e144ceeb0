"""What runs on a host: standard library only, Python 3.9, no import of anything else of voiceops.

``voiceops.remote.payload`` joins the modules that a program needs into one text. So a name at module level
is unique in the folder, imports from the folder stand at the top and rename nothing, and a text that stands
alone is a docstring. Types of requests and answers come from ``voiceops.remote.messages``, for type checkers
only. ``ready``, ``restart`` and ``postgres`` are installed as programs of their own.
"""

from pathlib import Path

ONHOST = Path(__file__).parent
