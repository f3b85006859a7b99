"""One thread for what is run here: of small networks a second one does little but wait."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
