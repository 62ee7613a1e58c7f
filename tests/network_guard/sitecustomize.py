"""Python runs this at start when the folder is on PYTHONPATH: the guard for kernels and other subprocesses."""

import network_guard

network_guard.install()
