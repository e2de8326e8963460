"""A module that changes its process while it is imported."""

import decimal
import os
import signal
import sys
import warnings

decimal.getcontext().prec = 50
os.environ["SET_ON_IMPORT"] = "1"
sys.setrecursionlimit(3000)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
warnings.filterwarnings("ignore", message="set on import")
