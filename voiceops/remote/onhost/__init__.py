"""What runs on a host: standard library only, Python 3.9, no import of anything else of voiceops.

``voiceops.remote.payload`` joins these modules, in the order of their floors, into the
one file that is sent. So a name at module level is unique in the folder, imports from the
folder rename nothing, and a text in triple quotes is a docstring.
"""

from pathlib import Path

ONHOST = Path(__file__).parent
