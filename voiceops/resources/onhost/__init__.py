"""What runs on a host: standard library only, Python 3.9, no import of anything else of voiceops.

``voiceops.resources.payload`` joins these modules, in the order of their floors, into the
one file that is sent. Two rules follow: a name at module level is unique in the folder, and
an import from the folder stands on one line.
"""
